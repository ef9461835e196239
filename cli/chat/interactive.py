"""The conversation loop: reads, answers, and stops an answer at Ctrl-C.

Ctrl-C while the model reads or answers stops it and keeps what was said; twice
within a second leaves. At the prompt it clears the line. Ctrl-D leaves.
"""

import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import NoReturn

from mlx_gemma4.errors import MediaError
from mlx_gemma4.generation.loop import Chunk

from ..attach.attaching import take_dropped
from ..attach.messages import Message
from ..errors import InputError, UsageError, exit_code, explain, wants_tracebacks
from ..macs.starting import lead
from ..terminal.keyboard import Interrupt, Keyboard, SecondInterrupt
from .commands import WORDS, Leave, is_command, run_command
from .conversation_file import rescue_conversation
from .lines import Reader, TerminalReader
from .session import Answer, Session

ENDS = (signal.SIGHUP, signal.SIGTERM)  # a terminal closed; a machine shut down


@contextmanager
def rescued(session: Session) -> Iterator[None]:
    """Keeps the conversation in a file where the program ends before the user does: by
    an error, or because its terminal is closed."""
    # Ignored is what is to go on where its terminal is closed: `nohup`.
    ends = [n for n in ENDS if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _end) for number in ends}
    if (first := lead()) is not None:  # which may end while this waits for another
        first.parting = partial(keep, session)
    try:
        yield
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except BaseException:
        keep(session)
        raise
    finally:
        if first is not None:
            first.parting = None
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def keep(session: Session) -> None:
    """Writes the conversation to a file and says where. Raises nothing: what ended the
    program is what has to be told."""
    if not session.chat.messages:
        return
    try:
        if session.kept:
            said = f"The conversation is kept: gemma4 chat --session {session.kept}"
        else:
            path = rescue_conversation(session.chat, session.model_name)
            said = f"The conversation is kept: /load {path}"
    except Exception as error:
        said = f"The conversation could not be kept: {error}"
    with suppress(Exception):  # the terminal may be gone
        session.screen.note(said)


def converse(session: Session, reader: Reader, first: str | None = None) -> None:
    """Runs the conversation until the user leaves."""
    with rescued(session):
        go_on(session, reader, first)


def go_on(session: Session, reader: Reader, first: str | None) -> None:
    if sys.stdin.isatty():
        drafts = " with its drafter" if session.chat.model.drafter else ""
        name = f"{session.model_name}{drafts}"
        session.screen.note(f"{name} · /help for help, Ctrl-D leaves")
    typing = isinstance(reader, TerminalReader)
    keyboard = Keyboard(reader.session.input) if typing else None
    # Of several processes, Ctrl-C has ended what passes on what is typed to them.
    interrupt = Interrupt(keyboard, always_leaves=lead() is not None)
    text = first
    while True:
        try:
            if text is None:
                text = read(session, reader)
            if text.strip():
                take_turn(session, text.strip(), interrupt)
                session.follow()
                session.screen.gap()
        except SecondInterrupt:
            raise
        except KeyboardInterrupt:
            if interrupt.leaves():
                raise SecondInterrupt from None
            session.screen.note("Ctrl-D or /bye leaves.")
        except (EOFError, Leave):
            return
        text = None


def read(session: Session, reader: Reader) -> str:
    """The next message; "" where what was typed cannot be one."""
    try:
        return reader.read(prompt(session), session.take_draft())
    except InputError as error:
        session.screen.note(str(error))
        return ""


def prompt(session: Session) -> str:
    """The prompt; after a tool call it asks for the call's result."""
    call = session.chat.open_call()
    return f"result of {call['function']['name']}> " if call else "> "


def take_turn(session: Session, text: str, interrupt: Interrupt) -> None:
    """Answers one message or runs one slash command.

    Whatever goes wrong in it is a note. Where nothing was answered, the conversation is
    what it was before.
    """
    chat = session.chat
    messages, attached = [*chat.messages], [*chat.attached]
    if sys.stdin.isatty() and chat.open_call() is None:
        text = WORDS.get(text.lower(), text)
    try:
        if is_command(text):
            chunks = run_command(session, text)
        else:
            chunks = send(session, text)
        if chunks is not None:
            play(session, chunks, interrupt)
    except (Leave, BrokenPipeError):
        raise
    except Exception as error:
        if error is session.screen.lost:  # nor could any other answer be shown
            raise
        if wants_tracebacks():
            traceback.print_exc()
        session.screen.passed()
        if not answered(chat.messages, messages):
            chat.messages, chat.attached = messages, attached
        message, hint = explain(error, exit_code(error))
        session.screen.note(f"{message} {hint}" if hint else message)


def answered(messages: list[Message], before: list[Message]) -> bool:
    """Whether the model has said anything since `before`."""
    said = (m for m in messages if m["role"] == "assistant")
    return any(all(m is not old for old in before) for m in said)


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


def play_one(session: Session, chunks: Iterator[Chunk], interrupt: Interrupt) -> Answer:
    """Shows an answer and runs what it calls; the answer to that, if there is one."""
    try:
        with interrupt:
            session.show(chunks, interrupt.stopped, interrupt.resumed)
    except SecondInterrupt:
        raise
    except KeyboardInterrupt:
        session.show_end()
    if interrupt.requested:
        return None
    try:
        return session.answer_calls(interrupt)
    except SecondInterrupt:
        raise
    except KeyboardInterrupt:
        if interrupt.always_leaves:
            raise SecondInterrupt from None
        interrupt.press()
        return None


def play(session: Session, chunks: Iterator[Chunk], interrupt: Interrupt) -> None:
    """Shows an answer, and those to what it calls; Ctrl-C stops it."""
    screen = session.screen
    screen.gap()
    more: Answer = chunks
    try:
        while more is not None:
            more = play_one(session, more, interrupt)
    finally:
        session.close_calls()  # where it was stopped, or went wrong
        session.end_turn()
    answer, full = session.chat.last, session.percent() == 100
    if session.calls is not None and session.calls.endless(session.chat):
        screen.note("(stopped: it calls tools all the time)")
    if interrupt.requested:
        said = answer is not None and bool(answer.text)
        goes_on = said or session.chat.has_results()
        screen.note("(stopped) /continue goes on with it." if goes_on else "(stopped)")
    if screen.as_json:
        return
    if answer is not None and answer.finish_reason == "length" and not full:
        screen.note("/continue goes on with it.")
    session.warn_of_end()
