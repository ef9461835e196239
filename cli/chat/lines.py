"""Reads what the user types: with line editing on a terminal, plainly elsewhere.

A message may span lines: Alt-Enter starts a new one, as does Enter after a
backslash, and a message opened with three double quotes runs to the next three.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import has_selection, is_searching
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import SimpleLexer
from prompt_toolkit.output import Output
from prompt_toolkit.styles import Style

from mlx_gemma4.launched import rank_of
from mlx_gemma4.state import state_folder

from ..attach.paths import last_word
from ..errors import InputError, UsageError
from ..terminal.text import printable

LONGEST = 10_000_000  # characters of a message; the longest context has a million
SKIPPED = 100  # times as many of a line that is too long
QUOTES = '"""'
STYLE = Style.from_dict(
    {
        "prompt": "bold ansicyan",
        "typed": "ansicyan",
        "bottom-toolbar": "noreverse dim",
    }
)


class Reader(Protocol):
    def read(self, prompt: str, draft: str = "") -> str:
        """One message. Raises EOFError at the end of input."""
        ...


def unfinished(text: str) -> bool:
    """Whether Enter after `text` continues the message."""
    if text.lstrip().startswith(QUOTES):
        return text.count(QUOTES) == 1
    return text.endswith("\\")


def message_text(text: str) -> str:
    """What was typed, without the marks of a multi-line message."""
    stripped = text.strip()
    if stripped.startswith(QUOTES):
        return stripped.removeprefix(QUOTES).removesuffix(QUOTES).strip("\n")
    return text.replace("\\\n", "\n")


def open_history() -> History:
    """The history file, readable by its owner only; memory if it cannot be had."""
    path = state_folder() / "history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        path.chmod(0o600)
    except OSError as error:
        print(f"No history is kept: {error}", file=sys.stderr)
        return InMemoryHistory()
    return KeptHistory(path)


class KeptHistory(FileHistory):
    """A history whose disk may be full: what was typed is sent all the same."""

    def store_string(self, string: str) -> None:
        with suppress(OSError):
            super().store_string(string)


class WordCompleter(Completer):
    """Completes commands, their words, and paths; `complete` gives what may follow the
    text before the cursor, each with what it does."""

    def __init__(self, complete: Callable[[str], Mapping[str, str]]) -> None:
        self.complete = complete

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterator[Completion]:
        before = document.text_before_cursor
        word = last_word(before)
        for candidate, does in self.complete(before).items():
            if candidate.startswith(word):
                yield Completion(candidate, -len(word), shown(candidate), does)


def shown(candidate: str) -> str:
    """How the menu lists it: of a path only the last part, which is what differs."""
    folder, slash, name = candidate.rstrip("/").rpartition("/")
    return candidate if not folder else name + candidate[len(folder + slash + name) :]


def key_bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if unfinished(buffer.text):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("c-g", filter=~is_searching & ~has_selection)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.open_in_editor()

    return bindings


def continuation(width: int, line: int, wrapped: int) -> StyleAndTextTuples:
    """What stands before the lines of a message after its first: nothing where the
    window alone broke the line."""
    return [("class:prompt", " " * width if wrapped else "· ".rjust(width))]


class TerminalReader:
    """Line editing, history and completion. `status` is shown below the line."""

    def __init__(
        self,
        complete: Callable[[str], Mapping[str, str]],
        history: History,
        status: Callable[[], str] | None = None,
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self.session: PromptSession[str] = PromptSession(
            multiline=True,
            history=history,
            completer=WordCompleter(complete),
            complete_while_typing=False,
            enable_open_in_editor=True,
            enable_suspend=True,
            tempfile_suffix=".md",
            key_bindings=key_bindings(),
            prompt_continuation=continuation,
            bottom_toolbar=status,
            lexer=SimpleLexer("class:typed"),
            style=STYLE,
            input=input,
            output=output,
        )

    def read(self, prompt: str, draft: str = "") -> str:
        text = self.session.prompt([("class:prompt", prompt)], default=draft)
        return message_text(text)


class PlainReader:
    """Lines from standard input. A prompt is shown only if someone types there, and so
    is a draft, which cannot be changed but sent."""

    def read(self, prompt: str, draft: str = "") -> str:
        if draft and sys.stdin.isatty():
            print(f"{printable(draft)}\n(Enter sends this)", file=sys.stderr)
            text = self._line(prompt) or draft
        else:
            text = self._line(prompt)
        while unfinished(text):
            text += "\n" + self._line("... ")
            refuse_length(text)
        return message_text(text)

    def _line(self, prompt: str) -> str:
        if sys.stdin.isatty() or rank_of() is not None:
            print(prompt, end="", file=sys.stderr, flush=True)
        line = rest = sys.stdin.readline(LONGEST + 1)
        if not line:
            raise EOFError
        for _ in range(SKIPPED):
            if len(rest) <= LONGEST or rest.endswith("\n"):
                break
            rest = sys.stdin.readline(LONGEST + 1)
        else:
            raise UsageError("Standard input holds a line that does not end.")
        line = line.rstrip("\r\n")
        refuse_length(line)
        try:
            line.encode("utf-8")
        except UnicodeEncodeError:  # main.py lets other bytes pass as half characters
            raise InputError(
                "That line is not UTF-8 text, and was not sent: convert it first, for "
                "example with iconv -t utf-8."
            ) from None
        return line


def refuse_length(text: str) -> None:
    """Raises InputError for what no model could read."""
    if len(text) > LONGEST:
        raise InputError(
            f"That message has more than {LONGEST:,} characters, and was not sent."
        )


def open_reader(
    complete: Callable[[str], Mapping[str, str]],
    keep_history: bool,
    status: Callable[[], str] | None = None,
) -> Reader:
    """The reader that suits where the command runs."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if not terminal or os.environ.get("TERM") in (None, "", "dumb"):
        return PlainReader()
    history = open_history() if keep_history else InMemoryHistory()
    return TerminalReader(complete, history, status)
