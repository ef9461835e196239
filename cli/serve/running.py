"""From the loaded model to the last reply: this thread computes, others speak HTTP."""

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlx_gemma4.reading.home import with_home

from ..api.routes import ROUTES
from .engine import Engine
from .guard import Guard
from .media import MediaRules
from .routes import Service, Site
from .server import Server
from .worker import Worker

if TYPE_CHECKING:
    from mlx_gemma4 import Gemma4, Processor

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE = 20.0  # seconds that an answer under way may still take


def run(
    server: Server,
    model: "Gemma4",
    processor: "Processor",
    name: str,
    defaults: Mapping[str, Any],
    guard: Guard,
    media: MediaRules,
    rows: int,
) -> None:
    """Serves until SIGINT or SIGTERM comes.

    name: of the model; where it is a folder's, clients are told the last part.
    defaults: options of `stream_generate` for requests that state none.
    rows: how many answers are made at once.
    """
    folder = with_home(name)
    name = folder.resolve().name if folder.is_dir() else name
    engine = Engine(model, processor, name, defaults, rows)
    worker = Worker()
    service = Service(worker, engine.name, engine.context, int(time.time()), media)
    server.site = Site(service, ROUTES, guard)
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    with _stopped_by_signals(worker):
        print(server.url, flush=True)
        worker.run(engine)
        server.shutdown()
        server.wait()


@contextmanager
def _stopped_by_signals(worker: Worker) -> Iterator[None]:
    """The first signal stops the worker behind what it does, or after GRACE; the second
    at once."""
    asked: list[int] = []

    def stop(number: int, frame: object) -> None:
        worker.stop(at_once=bool(asked))
        asked.append(number)
        if len(asked) == 1:
            late = threading.Timer(GRACE, worker.stop, (True,))
            late.daemon = True
            late.start()

    heard = [s for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
    before = {each: signal.signal(each, stop) for each in heard}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
