"""What a line that starts with a slash does in an interactive chat."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mlx_gemma4.generation.answer import Chunk
from mlx_gemma4.sampling import BOUNDS, SAMPLING

from ..attach.attaching import put, take_dropped
from ..attach.commands import attaching, detach_command, media_paths
from ..attach.messages import media_of, names, text_of
from ..errors import UsageError
from ..loading import warnings_noted
from ..render import stats_line
from ..settings import Settings
from .conversation_file import read_conversation, write_conversation
from .recent import show_recent
from .session import Session

Answer = Iterator[Chunk] | None
NUMBERS = (*SAMPLING, "max_tokens", "image_tokens")
WHOLE = {"max_tokens", "image_tokens", *(n for n in SAMPLING if BOUNDS[n].whole)}


class Leave(Exception):
    """The user asked to leave."""


def help_command(session: Session, words: str) -> Answer:
    for command in COMMANDS.values():
        session.screen.note(f"{command.usage:<22} {command.help}")
    session.screen.note(
        "A file dropped into the line is attached too: a path from /, ~, ./ or file://."
    )
    session.screen.note('Alt-Enter, a final backslash or """ … """ spans lines.')
    return None


def system_command(session: Session, words: str) -> Answer:
    if words:
        session.chat.system = None if words == "off" else words
    session.screen.note(f"system: {session.chat.system or '(none)'}")
    return None


def think_command(session: Session, words: str) -> Answer:
    session.chat.settings.think = on_or_off(words, session.chat.settings.think)
    session.screen.note(f"think: {'on' if session.chat.settings.think else 'off'}")
    return None


def regen_command(session: Session, words: str) -> Answer:
    if not session.chat.messages:
        raise UsageError("There is no answer to regenerate yet.")
    return session.chat.again()


def undo_command(session: Session, words: str) -> Answer:
    message = session.chat.undo()
    if message is None:
        raise UsageError("There is nothing to undo.")
    parts = media_of(message)
    session.screen.note(
        f"Took back: {text_of(message)}" + (f" ({names(parts)})" if parts else "")
    )
    return None


def edit_command(session: Session, words: str) -> Answer:
    chat = session.chat
    message = chat.question()
    if message is None:
        raise UsageError("There is no message to edit yet.")
    text = take_dropped(session, words) if words else ""
    chat.undo()
    added, chat.attached = chat.attached, media_of(message)
    for part in added:
        put(session, part, say=False)
    if text:
        return chat.ask(text)
    session.draft = text_of(message)
    return None


def set_command(session: Session, words: str) -> Answer:
    settings = session.chat.settings
    name, _, value = words.partition(" ")
    if name and name not in NUMBERS:
        raise UsageError(f"There is no setting '{name}'. Known: {', '.join(NUMBERS)}.")
    if value:
        parsed = parse_setting(name, value.strip())
        replace(settings, **{name: parsed}).check()
        setattr(settings, name, parsed)
    for key in [name] if name else NUMBERS:
        value = getattr(settings, key)
        session.screen.note(f"{key} = {'default' if value is None else value}")
    return None


def stats_command(session: Session, words: str) -> Answer:
    if words:
        session.show_stats = on_or_off(words, session.show_stats)
        session.screen.note(f"stats: {'on' if session.show_stats else 'off'}")
        return None
    answer = session.chat.last
    if answer is None or answer.stats is None:
        raise UsageError("There is no finished answer yet.")
    session.screen.note(stats_line(answer.stats))
    used = answer.stats.prompt_tokens + answer.stats.completion_tokens
    limit = session.chat.model.config.text_config.max_position_embeddings
    session.screen.note(f"context {used:,} of {limit:,} tokens")
    return None


def clear_command(session: Session, words: str) -> Answer:
    session.chat.clear()
    session.begin_anew()
    session.screen.note("The conversation is empty again.")
    return None


def save_command(session: Session, words: str) -> Answer:
    path = named_file(words, "/save FILE")
    if not session.chat.messages and not session.chat.attached:
        session.screen.note("The conversation is empty: nothing was saved.")
        return None
    write_conversation(path, session.chat, session.model_name)
    session.screen.note(f"Saved {len(session.chat.messages)} messages to {path}.")
    return None


def load_command(session: Session, words: str) -> Answer:
    path = named_file(words, "/load FILE")
    with warnings_noted(session.screen):
        read_conversation(path, session.chat)
    session.begin_anew()
    session.screen.note(f"Loaded {len(session.chat.messages)} messages from {path}.")
    show_recent(session.screen, session.chat.messages)
    return None


def bye_command(session: Session, words: str) -> Answer:
    raise Leave


def on_or_off(words: str, now: bool) -> bool:
    if words not in ("on", "off", ""):
        raise UsageError(f"Say on or off, not '{words}'.")
    return words == "on" if words else now


def parse_setting(name: str, text: str) -> float | int | None:
    """A value for /set, or the checkpoint's own for `default`."""
    if text == "default":
        return getattr(Settings(), name)
    try:
        return int(text) if name in WHOLE else float(text)
    except ValueError:
        kind = "whole number" if name in WHOLE else "number"
        raise UsageError(f"{name} takes a {kind}, not '{text}'.") from None


def named_file(words: str, usage: str) -> Path:
    if not words:
        raise UsageError(f"Name a file: {usage}.")
    if "\0" in words:
        raise UsageError("The name of a file cannot hold the character NUL.")
    # Path.expanduser would raise for a ~user who does not exist.
    return Path(os.path.expanduser(words))


@dataclass(frozen=True)
class Command:
    run: Callable[[Session, str], Answer]
    usage: str
    help: str


COMMANDS = {
    "/help": Command(help_command, "/help", "this list"),
    "/system": Command(system_command, "/system [TEXT|off]", "system instruction"),
    "/think": Command(think_command, "/think [on|off]", "let the model think first"),
    "/regen": Command(regen_command, "/regen", "answer the last message again"),
    "/undo": Command(undo_command, "/undo", "take back the last message"),
    "/edit": Command(edit_command, "/edit [TEXT]", "change the last message"),
    "/image": Command(attaching("image"), "/image [FILE…]", "attach pictures"),
    "/audio": Command(
        attaching("audio"), "/audio [FILE…]", "attach recordings; --track N before them"
    ),
    "/video": Command(attaching("video"), "/video [FILE…]", "attach videos"),
    "/file": Command(attaching("file"), "/file [FILE…]", "attach any: text, code, PDF"),
    "/detach": Command(detach_command, "/detach [FILE]", "take one back, or all"),
    "/set": Command(set_command, "/set [NAME [VALUE]]", "sampling; default resets"),
    "/stats": Command(stats_command, "/stats [on|off]", "speed, memory, context"),
    "/clear": Command(clear_command, "/clear", "start over"),
    "/save": Command(save_command, "/save FILE", "keep the conversation"),
    "/load": Command(load_command, "/load FILE", "go on with a saved one"),
    "/bye": Command(bye_command, "/bye", "leave, as Ctrl-D does"),
}
MEDIA = {"/image": "image", "/audio": "audio", "/video": "video", "/file": "file"}
ALIASES = {"/?": "/help", "/exit": "/bye", "/quit": "/bye"}


def is_command(text: str) -> bool:
    """Whether a line is a slash command: `/word`, not a path and not `//text`."""
    word = text.split(maxsplit=1)[0]
    return word.startswith("/") and (word in ALIASES or word[1:].isalpha())


def run_command(session: Session, text: str) -> Answer:
    """Runs a slash command; returns an answer to show if it asks for one."""
    word, *rest = text.split(maxsplit=1)
    command = COMMANDS.get(ALIASES.get(word, word))
    if command is None:
        raise UsageError(f"There is no command {word}. /help lists them.")
    return command.run(session, rest[0].strip() if rest else "")


def complete(before: str) -> Iterable[str]:
    """What may follow `before`, the line up to the cursor."""
    word, space, rest = before.partition(" ")
    if not word.startswith("/"):
        return ()
    if not space:
        return COMMANDS
    if word in MEDIA:
        return media_paths(MEDIA[word], rest)
    if word in ("/save", "/load"):
        return paths(rest)
    if " " in rest:
        return ()
    words = {"/think": ("on", "off"), "/stats": ("on", "off"), "/set": tuple(NUMBERS)}
    return words.get(word, ())


def paths(start: str) -> list[str]:
    """Files and folders that begin with `start`."""
    whole = Path(os.path.expanduser(start))
    folder, name = whole.parent, Path(start).name
    if start.endswith("/"):
        folder, name = whole, ""
    typed = start.removesuffix(name)
    try:
        found = sorted(p for p in folder.iterdir() if p.name.startswith(name))
    except (OSError, ValueError):  # ValueError: it holds NUL
        return []
    return [typed + p.name + ("/" if p.is_dir() else "") for p in found]
