"""`gemma4 serve`: the model for editors, agents and scripts, over HTTP."""

from pathlib import Path
from typing import Annotated

from .. import forms, options
from ..chat.setup import is_private
from ..errors import reported
from ..loading import open_model, warnings_noted
from ..logs.options import PromptCache
from ..logs.prompts import AUTO, OFF, end, open_prompts
from ..options import Panel
from ..render import Screen
from ..settings import Settings, takes_settings
from ..tools import options as tool_options
from .engine import ROWS


@takes_settings
def serve(
    model: options.Model = None,
    adapter: options.Adapter = None,
    host: Annotated[
        str,
        Panel.SERVER.option(
            "--host",
            help="The address to listen at. One that others reach needs a key.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        Panel.SERVER.option(
            "--port", min=0, max=65535, help="The port; 0 takes one that is free."
        ),
    ] = 8080,
    api_key: Annotated[
        Path | None,
        Panel.SERVER.option(
            "--api-key",
            metavar="FILE",
            help="A file with the key that clients have to give. GEMMA4_API_KEY is "
            "one as well.",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        Panel.SERVER.option(
            "--allow-origin",
            metavar="ORIGIN",
            help="Web pages that may ask, such as http://localhost:3000; * with a key. "
            "Repeatable.",
        ),
    ] = None,
    allow_files: Annotated[
        list[Path] | None,
        Panel.SERVER.option(
            "--allow-files",
            metavar="DIR",
            help="Read media that requests name, if they are in this folder. "
            "Repeatable.",
        ),
    ] = None,
    allow_url: Annotated[
        bool,
        Panel.SERVER.option(
            "--allow-url", help="Fetch media that requests name from the web."
        ),
    ] = False,
    rows: Annotated[
        int,
        Panel.SERVER.option(
            "--rows",
            min=1,
            metavar="N",
            help="How many answers are made at once; each takes memory of its own.",
        ),
    ] = ROWS,
    preset: options.Preset = None,
    prompt_cache: PromptCache = AUTO,
    *,
    settings: Settings,
    strict_tools: tool_options.Strict = False,
    yes: options.Yes = False,
) -> None:
    """Answer other programs over HTTP, as the servers of OpenAI and Anthropic do.

    Prints its address once it listens; a line for each request goes to stderr. What is
    set here holds for requests that do not set it. Ctrl-C lets the answer under way
    come to its end, a second one does not.

    Examples:
    gemma4 serve
    gemma4 serve -m e4b --port 8000
    gemma4 serve -m 26b --think --allow-files ~/Pictures
    gemma4 serve --host 0.0.0.0 --api-key key.txt
    """
    with reported(as_json=False):
        settings.check()
        if strict_tools:
            forms.read_form(None, True, None, None)  # whether forms can be held to
        from .opening import guard_for, listen, media_rules
        from .running import run

        guard = guard_for(host, api_key, allow_origin or [])
        media = media_rules(allow_files or [], allow_url)
        screen = Screen()
        with listen(host, port) as server, warnings_noted(screen):
            how = settings.loading
            opened = open_model(model, screen, adapter, yes=yes, **how)
            defaults = {**settings.options, "strict_tools": strict_tools}
            loaded, processor, name = opened
            kept = OFF if is_private(False) else prompt_cache
            prompts = open_prompts(kept, name, loaded, processor, adapter, screen)
            run(server, *opened, defaults, guard, media, rows, prompts)
            if prompts is not None:
                end(prompts, screen)
