"""`gemma4 serve`: the model for editors, agents and scripts, over HTTP."""

import signal
import threading
import time
from typing import Annotated

from .. import options
from ..errors import reported
from ..loading import open_model, warnings_noted
from ..options import Panel
from ..render import Screen
from ..settings import Settings, takes_settings


@takes_settings
def serve(
    model: options.Model = None,
    adapter: options.Adapter = None,
    host: Annotated[
        str,
        Panel.SERVER.option(
            "--host", help="The address to listen at. Any but 127.0.0.1 needs a key."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        Panel.SERVER.option(
            "--port", min=0, max=65535, help="The port; 0 takes one that is free."
        ),
    ] = 8080,
    *,
    settings: Settings,
    yes: options.Yes = False,
) -> None:
    """Answer other programs over HTTP, as OpenAI's and Anthropic's servers do.

    Examples:
    gemma4 serve
    gemma4 serve -m e4b --port 8000
    """
    with reported(as_json=False):
        screen = Screen()
        with warnings_noted(screen):
            opened, processor, name = open_model(model, screen, adapter, yes=yes)
            from ..api.routes import ROUTES
            from .engine import Engine
            from .guard import Guard
            from .media import MediaRules
            from .routes import Service, Site
            from .server import Server
            from .worker import Worker

            engine = Engine(opened, processor, name)
            worker = Worker()
            service = Service(
                worker, name, engine.context, int(time.time()), MediaRules()
            )
            server = Server((host, port), Site(service, ROUTES, Guard(host)))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            print(server.url, flush=True)

            def stop(number: int, frame: object) -> None:
                worker.stop(at_once=True)

            signal.signal(signal.SIGINT, stop)
            signal.signal(signal.SIGTERM, stop)
            worker.run(engine)
            server.shutdown()
