"""`gemma4 chat`: one answer, or a conversation."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_gemma4.media import Kind
from mlx_gemma4.reading.sources import find_alike

from .. import options
from ..attach.attaching import NamedFile, attach, refuse_other_kind
from ..attach.paths import path_of
from ..errors import UsageError, no_file, reported
from ..inputs import has_piped_input, read_piped_text, read_tools, whole_prompt
from ..loading import open_model
from ..models.first_run import first_choice
from ..render import Screen
from ..settings import Settings, takes_settings

if TYPE_CHECKING:
    from .session import Session


@takes_settings
def chat(
    context: typer.Context,
    prompt: Annotated[
        str | None,
        typer.Argument(
            help="What to ask. Without it a conversation starts; - is standard input.",
            show_default=False,
        ),
    ] = None,
    model: options.Model = None,
    adapter: options.Adapter = None,
    system: options.System = None,
    preset: options.Preset = None,
    *,
    settings: Settings,
    show_thinking: options.ShowThinking = None,
    tools: options.Tools = None,
    image: options.Image = None,
    audio: options.Audio = None,
    video: options.Video = None,
    track: options.Track = None,
    yes: options.Yes = False,
    as_json: options.Json = False,
    stats: options.Stats = False,
    interactive: options.Interactive = False,
    no_history: options.NoHistory = False,
) -> None:
    """Ask one question, or hold a conversation.

    Text piped in goes before the prompt, media before both. Only answers are printed
    to stdout.

    Examples:
    gemma4 chat "What is the capital of France?"
    gemma4 chat -m google/gemma-4-E2B-it
    gemma4 chat --image photo.jpg "What is this?"
    git diff | gemma4 chat "Write a commit message."
    gemma4 chat --json "Hi" | jq .usage
    """
    with reported(as_json):
        media = existing(context.meta.get(options.MEDIA, []))
        if track is not None and not audio:
            raise UsageError("--track is for the files that --audio names.")
        question = read_question(prompt, interactive)
        settings.check()
        screen = Screen(show_thinking, as_json)
        model = first_choice(model, adapter is not None, screen)
        session = open_session(model, settings, screen, system, tools, adapter, yes)
        session.show_stats = stats
        talking = interactive or question is None
        attach(session, media, say=talking, track=track)
        if question is None or talking:
            talk(session, question, keep_history=not no_history)
        else:
            session.show(session.chat.ask(question))


def read_question(prompt: str | None, interactive: bool) -> str | None:
    """The prompt with what was piped in before it; None starts a conversation."""
    if prompt is None and (interactive or sys.stdin.isatty()):
        return None
    piped = ""
    if prompt == "-" or (has_piped_input() and not interactive):
        piped = read_piped_text()
    question = whole_prompt(prompt, piped)
    if not question:
        raise UsageError('The prompt is empty. Ask something: gemma4 chat "…"')
    return question


def existing(named: list[tuple[Kind, str]]) -> list[NamedFile]:
    """The files that options name, each with its kind; checked before loading."""
    found: list[NamedFile] = [(kind, path_of(path)) for kind, path in named]
    for n, (kind, path) in enumerate(found):
        if not os.path.exists(path):
            if not (alike := find_alike(path)):
                raise no_file(path)
            found[n] = (kind, alike)
        refuse_other_kind(*found[n], "--")
    return found


def open_session(
    name: str | None,
    settings: Settings,
    screen: Screen,
    system: str | None,
    tools_file: Path | None,
    adapter: Path | None = None,
    yes: bool = False,
) -> "Session":
    """Loads the model; `name` None means the demo model."""
    tools = read_tools(tools_file) if tools_file else None
    start = time.perf_counter()
    model, processor, name = open_model(name, screen, adapter, yes=yes)
    seconds = time.perf_counter() - start
    from .conversation import Conversation
    from .session import Session

    chat = Conversation(model, processor, settings, system, tools)
    return Session(chat, screen, name, seconds)


def talk(session: "Session", first: str | None, keep_history: bool) -> None:
    from .commands import complete
    from .interactive import converse
    from .lines import open_reader

    converse(session, open_reader(complete, keep_history), first)
