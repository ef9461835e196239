"""The conversation loop: reads, answers, and stops an answer at Ctrl-C.

Ctrl-C while the model answers stops the answer and keeps what was said; twice
within a second leaves. At the prompt it clears the line. Ctrl-D leaves.
"""

import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType

from mlx_gemma4.errors import ChatError, MediaError
from mlx_gemma4.generate import Chunk

from .commands import Leave, is_command, run_command
from .errors import InputError, UsageError
from .lines import Reader
from .session import Session

TWICE = 1.0  # seconds between two Ctrl-C that mean "leave"


class SecondInterrupt(KeyboardInterrupt):
    """Ctrl-C twice in a row."""


class Interrupt:
    """While active, Ctrl-C sets `requested` instead of raising.

    An exception in the middle of a step could leave the caches half written; the
    flag is read between tokens. A second Ctrl-C within a second does raise.
    """

    def __init__(self) -> None:
        self.requested = False
        self._at = float("-inf")

    def __enter__(self) -> "Interrupt":
        self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._at < TWICE:
            raise SecondInterrupt
        self.requested, self._at = True, now


def converse(session: Session, reader: Reader, first: str | None = None) -> None:
    """Runs the conversation until the user leaves."""
    if sys.stdin.isatty():
        session.screen.note(f"{session.model_name} · /help for help, Ctrl-D leaves")
    text = first
    while True:
        try:
            if text is None:
                text = reader.read(prompt(session), session.take_draft())
            if text.strip():
                take_turn(session, text.strip())
        except SecondInterrupt:
            raise
        except KeyboardInterrupt:
            session.screen.note("Ctrl-D or /bye leaves.")
        except (EOFError, Leave):
            return
        text = None


def prompt(session: Session) -> str:
    """The prompt; after a tool call it asks for the call's result."""
    call = session.chat.open_call()
    return f"result of {call['function']['name']}> " if call else "> "


def take_turn(session: Session, text: str) -> None:
    """Answers one message or runs one slash command."""
    try:
        if is_command(text):
            chunks = run_command(session, text)
        else:
            chunks = session.chat.ask(text[1:] if text.startswith("//") else text)
        if chunks is not None:
            play(session, chunks)
    except (ChatError, MediaError, InputError, UsageError) as error:
        session.screen.note(str(error))


def play(session: Session, chunks: Iterator[Chunk]) -> None:
    """Shows an answer; Ctrl-C stops it."""
    with Interrupt() as interrupt:
        session.show(chunks, stopped=lambda: interrupt.requested)
    if interrupt.requested:
        session.screen.note("(stopped)")
