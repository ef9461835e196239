"""The messages of a conversation, as the library has them, and what is in them.

An attachment is the library's part of a message: its type, the absolute path it came
from, a label for the user, and the medium as the model reads it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Message = dict[str, Any]
Part = dict[str, Any]


def content_of(text: str, attached: Sequence[Part]) -> str | list[Part]:
    """A message's content: what is attached in order, then the text."""
    return [*attached, {"type": "text", "text": text}] if attached else text


def media_of(message: Message) -> list[Part]:
    """The attachments of a message."""
    content = message["content"]
    if isinstance(content, str):
        return []
    return [part for part in content if part["type"] != "text"]


def text_of(message: Message) -> str:
    """What was typed of a message."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def plain_message(message: Message) -> Message:
    """`message` with the paths and budgets of its media, not what is in them."""
    content = message["content"]
    if isinstance(content, str):
        return message
    kept = ("type", "text", "path", "image_tokens", "track")
    parts = [{key: part[key] for key in kept if key in part} for part in content]
    return {**message, "content": parts}


def names(parts: Iterable[Part]) -> str:
    return ", ".join(Path(part["path"]).name for part in parts)
