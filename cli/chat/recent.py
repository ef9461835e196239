"""The end of a conversation that is gone on with, beside the answers to come."""

from collections.abc import Iterator

from ..attach.messages import Message, calls_of, worded
from ..render import Screen

QUESTIONS = 2  # how many of the last are shown, with what follows them
SIGNS = {"user": "> ", "tool": "result> "}  # before each line of what was no answer
LINES, LETTERS = 8, 600  # the most that is shown of one message


def show_recent(screen: Screen, messages: list[Message]) -> None:
    """Notes the last turns."""
    asked = [n for n, message in enumerate(messages) if message["role"] == "user"]
    start = asked[-QUESTIONS] if len(asked) >= QUESTIONS else 0
    if start:
        screen.note(f"… {start} earlier messages …")
    for message in messages[start:]:
        for line in lines_of(message):
            screen.note(line)


def lines_of(message: Message) -> Iterator[str]:
    """What is shown of a message, with `> ` before what was asked."""
    sign = SIGNS.get(message["role"], "")
    yield from (sign + line for line in clipped(worded(message)))
    yield from calls_of(message)


def clipped(text: str) -> list[str]:
    lines = text[:LETTERS].splitlines()
    whole = len(text) <= LETTERS and len(lines) <= LINES
    if whole:
        return lines
    lines = lines[:LINES]
    return [*lines[:-1], f"{lines[-1]} …"]
