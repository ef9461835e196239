"""`gemma4 chat`: one answer, or a conversation."""

import os
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_gemma4.launched import rank_of
from mlx_gemma4.media import Kind
from mlx_gemma4.reading.sources import find_alike

from .. import forms, options
from ..attach.attaching import NamedFile, attach, refuse_other_kind, take_dropped
from ..attach.paths import path_of, take_paths
from ..config.defaults import CHOSEN
from ..errors import UsageError, no_file, reported
from ..inputs import has_piped_input, read_piped_text, read_tools, whole_prompt
from ..loading import open_model
from ..logs.command import session_names
from ..logs.options import Log, NoHistory, PromptCache
from ..logs.prompts import AUTO
from ..models.first_run import first_choice
from ..options import Panel
from ..render import Screen
from ..settings import Settings, takes_settings
from ..tools import options as tool_options
from ..tools.opening import chosen_tools, note_missing, use
from .setup import Setup, is_kept, is_private
from .switching import go_on_from_kept

if TYPE_CHECKING:
    from ..logs.resuming import Kept
    from .session import Session

ONLY_FILES = (
    "That is only files. Say what to do with them: gemma4 chat "
    '"What is in ./photo.jpg?"'
)
Continue = Annotated[
    bool,
    Panel.TASK.option("--continue", "-c", help="Go on with the last conversation."),
]
Named = Annotated[
    str | None,
    Panel.TASK.option(
        "--session",
        metavar="NAME",
        help="Go on with a kept conversation, by name or number, or begin it.",
        autocompletion=session_names,
    ),
]


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
    schema: forms.Schema = None,
    json_object: forms.JsonObject = False,
    regex: forms.Regex = None,
    grammar: forms.Grammar = None,
    show_thinking: options.ShowThinking = None,
    tool: tool_options.Files = None,
    mcp: tool_options.Servers = None,
    tools: options.Tools = None,
    strict_tools: tool_options.Strict = False,
    max_rounds: tool_options.MaxRounds = tool_options.ROUNDS,
    image: options.Image = None,
    audio: options.Audio = None,
    video: options.Video = None,
    track: options.Track = None,
    yes: tool_options.Yes = False,
    plain: options.Plain = False,
    preview: options.Preview = None,
    attach_named: options.Attach = True,
    as_json: options.Json = False,
    stats: options.Stats = False,
    interactive: options.Interactive = False,
    no_history: NoHistory = False,
    prompt_cache: PromptCache = AUTO,
    last: Continue = False,
    named: Named = None,
    keep: Log = None,
) -> None:
    """Ask one question, or hold a conversation.

    Text piped in goes before the prompt, media before both. A file that the prompt
    names by a path from /, ~/, ./ or ../ is attached: a picture, recording or video,
    text and code as text, a PDF as its text. Only answers are printed to stdout.

    Examples:
    gemma4 chat "What is the capital of France?"
    gemma4 chat -m e4b
    gemma4 chat --continue
    gemma4 chat "What is in ./photo.jpg?"
    gemma4 chat --tool weather.py "What is the weather in Oslo?"
    git diff | gemma4 chat "Write a commit message."
    gemma4 chat "Who wrote Emma?" --schema 'author, year int' | jq .author
    gemma4 chat --json "Hi" | jq .usage
    """
    with reported(as_json), ExitStack() as opened:
        media = existing(context.meta.get(options.MEDIA, []))
        if track is not None and not audio:
            raise UsageError("--track is for the files that --audio names.")
        question = read_question(prompt, interactive)
        talking = interactive or question is None
        form = forms.read_form(schema, json_object, regex, grammar)
        declared = read_tools(tools) if tools else None
        setup = Setup(model, adapter, system, declared, settings)
        kept = kept_one(last, named)
        if kept is None and question is not None and attach_named and not talking:
            question.check()
        if kept is not None:
            setup = kept.but_with(setup, stated(context))
        setup.settings.check()
        screen = Screen(show_thinking, as_json, not plain, preview)
        if "think_budget" in stated(context) and not setup.settings.think:
            screen.note("Without --think there is no thought for --think-budget.")
        chosen = opened.enter_context(
            chosen_tools(tool or (), mcp or (), declared or (), screen)
        )
        if strict_tools:
            known = [tool.declaration for tool in chosen.tools] if chosen else []
            known += setup.tools or ()
            if not known and not mcp and "strict_tools" in stated(context):
                raise UsageError("--strict-tools is for --tool, --mcp and --tools.")
            forms.check_calls(known)
        adapted = setup.adapter is not None
        setup = replace(setup, model=first_choice(setup.model, adapted, screen))
        session = open_session(setup, screen, yes)
        if chosen is not None:
            use(session, chosen, yes, max_rounds)
        session.chat.form, session.chat.strict_tools = form, strict_tools
        session.show_stats, session.attach_named = stats, attach_named
        if is_kept(keep, as_json, last or named is not None, no_history):
            session.keep(named)
        elif named is not None:
            screen.note(
                f"Not kept in {named}: --no-log, GEMMA4_LOG or keep in config.toml."
            )
        session.prompt_cache = prompt_cache
        go_on_from_kept(session)
        opened.callback(session.close_prompts)
        if kept is not None:
            go_on(session, kept, question is None)
        attach(session, media, say=talking, track=track)
        if question is None or talking:
            first = question and question.text
            talk(session, first, keep_history=not no_history)
        else:
            answer_once(session, question)
            if session.keeper is None and not (keep is False or is_private(no_history)):
                session.remember_prompt()


@dataclass
class Question:
    """What was asked, and what was piped in, which goes before it."""

    asked: str
    piped: str

    @property
    def text(self) -> str:
        return whole_prompt(self.asked, self.piped)

    @property
    def names_files(self) -> bool:
        """Whether its paths are files to attach, as in a conversation."""
        return not self.asked.startswith("//")

    def check(self) -> None:
        """Raises InputError for a path that leads nowhere, and UsageError where nothing
        is asked: what can be said before a model is loaded."""
        if self.names_files:
            rest = take_paths(self.asked).rest
            if not Question(rest, self.piped).text:
                raise UsageError(ONLY_FILES)


def read_question(prompt: str | None, interactive: bool) -> Question | None:
    """The prompt with what was piped in; None starts a conversation."""
    typed = sys.stdin.isatty() or rank_of() is not None  # which mlx.launch passes on
    if prompt is None and (interactive or typed):
        return None
    piped = ""
    if prompt == "-" or (has_piped_input() and not interactive):
        piped = read_piped_text()
    question = Question(prompt or "", piped)
    if not question.text:
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


def kept_one(last: bool, name: str | None) -> "Kept | None":
    """The conversation to go on with. Raises UsageError where there is none."""
    if last and name is not None:
        raise UsageError("Choose one of --continue and --session.")
    if not last and name is None:
        return None
    from ..logs.resuming import look_up

    return look_up(name)


def stated(context: typer.Context) -> set[str]:
    """The parameters that were typed, themselves or as a preset."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    typed = {
        n for n, source in sources.items() if source and source.name == "COMMANDLINE"
    }
    return typed | context.meta.get(CHOSEN, set())


def go_on(session: "Session", kept: "Kept", talking: bool) -> None:
    """Puts a kept conversation back, and shows its end to who talks on."""
    from ..logs.resuming import put_back
    from .recent import show_recent

    put_back(kept, session, draft=talking and sys.stdin.isatty())
    note_missing(session)
    if talking:
        show_recent(session.screen, session.chat.messages)


def answer_once(session: "Session", question: Question) -> None:
    """Raises FormError for an answer that does not have its form."""
    chat = session.chat
    if question.names_files and chat.open_call() is None:
        question.asked = take_dropped(session, question.asked)
    if not question.text:
        raise UsageError(ONLY_FILES)
    session.show_once(chat.ask(question.text))
    if session.calls is not None:
        session.calls.check_allowed()
        session.calls.check_answered(chat)
    if chat.form:
        forms.refuse_invalid(chat.last)


def open_session(setup: Setup, screen: Screen, yes: bool = False) -> "Session":
    """Loads the model."""
    start = time.perf_counter()
    model, processor, name = open_model(
        setup.model, screen, setup.adapter, yes=yes, **setup.settings.loading
    )
    seconds = time.perf_counter() - start
    from .conversation import Conversation
    from .session import Session

    chat = Conversation(model, processor, setup.settings, setup.system, setup.tools)
    return Session(chat, screen, name, seconds, adapter=setup.adapter)


def talk(session: "Session", first: str | None, keep_history: bool) -> None:
    from .commands import complete
    from .interactive import converse
    from .lines import open_reader

    converse(session, open_reader(complete, keep_history, session.status), first)
    if session.calls is not None:
        session.calls.check_allowed()
