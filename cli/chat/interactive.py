"""The conversation loop: reads, answers, and stops an answer at Ctrl-C.

Ctrl-C while the model reads or answers stops it and keeps what was said; twice
within a second leaves. At the prompt it clears the line. Ctrl-D leaves.
"""

import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType

from mlx_gemma4.errors import ChatError, MediaError
from mlx_gemma4.generation.loop import Chunk

from ..errors import InputError, UsageError
from .attach import take_dropped
from .commands import Leave, is_command, run_command
from .lines import Reader
from .session import Session

TWICE = 1.0  # seconds between two Ctrl-C that mean "leave"


class SecondInterrupt(KeyboardInterrupt):
    """Ctrl-C twice in a row."""


class Interrupt:
    """While active, Ctrl-C stops one answer; `requested` says that it did.

    Reading a long prompt can take minutes, so until the answer begins it raises at
    once; the prefix cache notices that it was left half way. After that the flag is
    read between tokens. A second Ctrl-C within a second always raises.
    """

    def __init__(self) -> None:
        self.requested = False
        self._begun = False
        self._at = float("-inf")

    def stopped(self) -> bool:
        """Asked after each piece of the answer: whether to go no further."""
        self._begun = True
        return self.requested

    def just_pressed(self) -> bool:
        """Whether an answer was stopped less than a second ago."""
        return time.monotonic() - self._at < TWICE

    def __enter__(self) -> "Interrupt":
        self.requested = self._begun = False
        self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.just_pressed():
            raise SecondInterrupt
        self.requested, self._at = True, time.monotonic()
        if not self._begun:
            raise KeyboardInterrupt


def converse(session: Session, reader: Reader, first: str | None = None) -> None:
    """Runs the conversation until the user leaves."""
    if sys.stdin.isatty():
        session.screen.note(f"{session.model_name} · /help for help, Ctrl-D leaves")
    interrupt = Interrupt()
    text = first
    while True:
        try:
            if text is None:
                text = reader.read(prompt(session), session.take_draft())
            if text.strip():
                take_turn(session, text.strip(), interrupt)
        except SecondInterrupt:
            raise
        except KeyboardInterrupt:
            if interrupt.just_pressed():
                raise SecondInterrupt from None
            session.screen.note("Ctrl-D or /bye leaves.")
        except (EOFError, Leave):
            return
        text = None


def prompt(session: Session) -> str:
    """The prompt; after a tool call it asks for the call's result."""
    call = session.chat.open_call()
    return f"result of {call['function']['name']}> " if call else "> "


def take_turn(session: Session, text: str, interrupt: Interrupt) -> None:
    """Answers one message or runs one slash command."""
    try:
        if is_command(text):
            chunks = run_command(session, text)
        else:
            chunks = send(session, text)
        if chunks is not None:
            play(session, chunks, interrupt)
    except (ChatError, MediaError, InputError, UsageError) as error:
        session.screen.note(str(error))


def send(session: Session, text: str) -> Iterator[Chunk] | None:
    """Asks, once the files named in the message are attached to it.

    Nothing is asked if there is nothing else in it, or if one cannot be attached.
    """
    if text.startswith("//"):  # as it stands
        return session.chat.ask(text[1:])
    if session.chat.open_call() is not None:  # the result of a tool
        return session.chat.ask(text)
    try:
        rest = take_dropped(session, text)
    except (MediaError, InputError, UsageError):
        session.draft = text
        raise
    return session.chat.ask(rest) if rest else None


def play(session: Session, chunks: Iterator[Chunk], interrupt: Interrupt) -> None:
    """Shows an answer; Ctrl-C stops it."""
    try:
        with interrupt:
            session.show(chunks, stopped=interrupt.stopped)
    except SecondInterrupt:
        raise
    except KeyboardInterrupt:
        session.show_end()
    if interrupt.requested:
        session.screen.note("(stopped)")
