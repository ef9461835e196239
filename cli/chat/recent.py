"""The end of a conversation that is gone on with, beside the answers to come."""

from collections.abc import Iterator

from ..attach.messages import Message, media_of, names, text_of
from ..render import Screen

QUESTIONS = 2  # how many of the last are shown, with what follows them
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
    text = text_of(message).strip()
    if media := [part for part in media_of(message) if "path" in part]:
        text = f"{text} ({names(media)})".strip()
    yield from (sign_of(message) + line for line in clipped(text) if text)
    for call in message.get("tool_calls", []):
        yield f"{call['function']['name']} {call['function'].get('arguments', '')}"


def sign_of(message: Message) -> str:
    return {"user": "> ", "tool": "result> "}.get(message["role"], "")


def clipped(text: str) -> list[str]:
    lines = text[:LETTERS].splitlines()
    whole = len(text) <= LETTERS and len(lines) <= LINES
    if whole:
        return lines
    lines = lines[:LINES]
    return [*lines[:-1], f"{lines[-1]} …"]
