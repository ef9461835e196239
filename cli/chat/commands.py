"""What a line that starts with a slash does in an interactive chat."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mlx_gemma4.hub.here import names_here
from mlx_gemma4.hub.names import short_names

from ..attach.attaching import put, take_dropped
from ..attach.commands import attaching, detach_command, media_paths
from ..attach.messages import media_of, text_of, worded
from ..attach.paths import last_word
from ..errors import UsageError
from ..loading import warnings_noted
from ..render import stats_line
from ..tools.listing import tools_command
from ..usage.mistakes import suggestion
from .answers import continue_command, copy_command, history_command, regen_command
from .conversation_file import read_conversation, write_conversation
from .help import help_lines
from .recent import show_recent
from .session import Answer, Session
from .setting import (
    KNOWN,
    on_or_off,
    set_command,
    show_command,
    system_command,
    think_command,
)
from .switching import model_command

AUDIO = "attach recordings; --track N first"
PATHS = ("/", "~", "./", "../")  # how a path begins that a message attaches


class Leave(Exception):
    """The user asked to leave."""


def help_command(session: Session, words: str) -> Answer:
    groups = {
        title: [(command.usage, command.help) for command in commands.values()]
        for title, commands in GROUPS.items()
    }
    for line in help_lines(groups):
        session.screen.note(line)
    return None


def undo_command(session: Session, words: str) -> Answer:
    message = session.chat.undo()
    if message is None:
        raise UsageError("There is nothing to undo.")
    session.screen.note(f"Took back: {worded(message)}")
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
    session.screen.note(f"context {used:,} of {session.limit():,} tokens")
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
    session.lose_calls()
    session.screen.note(f"Loaded {len(session.chat.messages)} messages from {path}.")
    show_recent(session.screen, session.chat.messages)
    return None


def bye_command(session: Session, words: str) -> Answer:
    raise Leave


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


GROUPS = {
    "Answers": {
        "/regen": Command(regen_command, "/regen", "answer the last message again"),
        "/continue": Command(continue_command, "/continue", "go on with a cut answer"),
        "/edit": Command(edit_command, "/edit [TEXT]", "change the last message"),
        "/undo": Command(undo_command, "/undo", "take back the last message"),
        "/copy": Command(copy_command, "/copy [code [N]]", "to the clipboard"),
    },
    "Files": {
        "/image": Command(attaching("image"), "/image [FILE…]", "attach pictures"),
        "/audio": Command(attaching("audio"), "/audio [FILE…]", AUDIO),
        "/video": Command(attaching("video"), "/video [FILE…]", "attach videos"),
        "/file": Command(attaching("file"), "/file [FILE…]", "text, code, PDF, any"),
        "/detach": Command(detach_command, "/detach [FILE]", "take one back, or all"),
    },
    "Model": {
        "/model": Command(model_command, "/model [NAME]", "go on with another"),
        "/system": Command(system_command, "/system [TEXT|off]", "instruction for all"),
        "/think": Command(think_command, "/think [on|off]", "think before answering"),
        "/set": Command(set_command, "/set [NAME [VALUE]]", "sampling; default resets"),
        "/tools": Command(tools_command, "/tools", "what the model may call"),
        "/show": Command(show_command, "/show", "model, context and settings"),
        "/stats": Command(stats_command, "/stats [on|off]", "speed, memory, context"),
    },
    "Conversation": {
        "/history": Command(history_command, "/history", "what was said so far"),
        "/clear": Command(clear_command, "/clear", "start over"),
        "/save": Command(save_command, "/save FILE", "keep the conversation"),
        "/load": Command(load_command, "/load FILE", "go on with a saved one"),
        "/help": Command(help_command, "/help", "this list"),
        "/bye": Command(bye_command, "/bye", "leave, as Ctrl-D does"),
    },
}
COMMANDS = {word: each for group in GROUPS.values() for word, each in group.items()}
MEDIA = {"/image": "image", "/audio": "audio", "/video": "video", "/file": "file"}
ALIASES = {"/?": "/help", "/exit": "/bye", "/quit": "/bye"}
WORDS = {"exit": "/bye", "quit": "/bye", "help": "/help", "?": "/help"}
CHOICES = {
    "/think": ("on", "off"),
    "/stats": ("on", "off"),
    "/system": ("off",),
    "/copy": ("code",),
    "/set": KNOWN,
}


def is_command(text: str) -> bool:
    """Whether a line is a slash command: `/word`, not a path and not `//text`."""
    word = text.split(maxsplit=1)[0]
    return word.startswith("/") and (word in ALIASES or word[1:].isalpha())


def run_command(session: Session, text: str) -> Answer:
    """Runs a slash command; returns an answer to show if it asks for one."""
    word, *rest = text.split(maxsplit=1)
    command = COMMANDS.get(ALIASES.get(word, word))
    if command is None:
        meant = suggestion(word, [*COMMANDS, *ALIASES])
        raise UsageError(f"There is no command {word}.{meant} /help lists them.")
    if rest and " " not in command.usage:
        raise UsageError(f"{word} takes nothing behind it, but '{rest[0]}' is there.")
    return command.run(session, rest[0].strip() if rest else "")


def complete(before: str) -> dict[str, str]:
    """What may follow `before`, the text up to the cursor, and what each is for.

    Paths are completed wherever they may be attached: from /, ~, ./ or ../ on.
    """
    word, space, rest = before.partition(" ")
    if word and not space:
        begun = {c: each.help for c, each in COMMANDS.items() if c.startswith(word)}
        if begun:
            return begun
    found = arguments(word, rest) if space and word in COMMANDS else files(before)
    return dict.fromkeys(found, "")


def files(text: str) -> Iterable[str]:
    """How a path may go on that `text` ends in."""
    typed = last_word(text)
    is_path = typed.lstrip("'\"").startswith(PATHS)
    return media_paths("file", typed) if is_path else ()


def arguments(command: str, rest: str) -> Iterable[str]:
    """How the last word behind a command may go on."""
    if command in MEDIA:
        return media_paths(MEDIA[command], rest)
    if command in ("/save", "/load"):
        return paths(rest)
    if command == "/model":
        return [*names_here(), *short_names()]
    if command == "/edit":
        return files(rest)
    return () if " " in rest else CHOICES.get(command, ())


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
