"""The messages of a conversation, as the library has them, and what is in them.

An attachment is a part of a message: its type, the absolute path it came from, a label
for the user, and the medium as the model reads it. One of type `file` holds a text; the
library gets it within the message's one part of text, which keeps `files` and what was
`typed` apart for us.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Message = dict[str, Any]
Part = dict[str, Any]

FENCE = re.compile(r"^ {0,3}(`{3,})", re.MULTILINE)


def content_of(text: str, attached: Sequence[Part]) -> str | list[Part]:
    """A message's content: media in order, texts of files, then what was typed."""
    if not attached:
        return text
    files = [part for part in attached if part["type"] == "file"]
    media = [part for part in attached if part["type"] != "file"]
    whole: Part = {"type": "text", "text": text}
    if files:
        whole = {"type": "text", "text": with_files(text, files)}
        whole |= {"typed": text, "files": files}
    return [*media, whole]


def with_files(text: str, files: Sequence[Part]) -> str:
    """What the model reads: each file's text under its name and between fences, so that
    it can tell the file's words from the user's, then what was typed."""
    blocks = [_fenced(Path(part["path"]).name, part["text"]) for part in files]
    return "\n\n".join([*blocks, text] if text else blocks)


def _fenced(name: str, text: str) -> str:
    longest = max(map(len, FENCE.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f"{name}:\n{fence}\n{text.rstrip(chr(10))}\n{fence}"


def media_of(message: Message) -> list[Part]:
    """The attachments of a message, text files last."""
    content = message["content"]
    if isinstance(content, str) or message.get("role") == "tool":
        return []
    media = [part for part in content if part["type"] != "text"]
    return media + [file for part in content for file in part.get("files", ())]


def text_of(message: Message) -> str:
    """What was typed of a message."""
    content = message["content"]
    if isinstance(content, str):
        return content
    texts = (part for part in content if part["type"] == "text")
    return "".join(part.get("typed", part["text"]) for part in texts)


def worded(message: Message) -> str:
    """What was typed of a message, and the names of the files that went with it."""
    files = [part for part in media_of(message) if "path" in part]
    text = text_of(message).strip()
    return f"{text} ({names(files)})".strip() if files else text


def calls_of(message: Message) -> list[str]:
    """The tool calls of an answer, in words."""
    calls = (call["function"] for call in message.get("tool_calls", ()))
    return [f"{call['name']} {_said(call.get('arguments', ''))}" for call in calls]


def _said(arguments: object) -> str:
    """As JSON, which they may be already in a conversation from elsewhere."""
    if isinstance(arguments, str):
        return arguments
    return json.dumps(arguments, ensure_ascii=False, default=str)


def plain_message(message: Message) -> Message:
    """`message` with the paths and budgets of its media, not what is in them. What a
    tool gave beside text is named only."""
    content = message["content"]
    if isinstance(content, str):
        return message
    if message["role"] == "tool":
        words = (part.get("text", f"({part['type']}, not kept)") for part in content)
        return {**message, "content": "\n".join(filter(None, words))}
    kept = ("type", "text", "typed", "files", "path", "image_tokens", "track")
    parts = [{key: part[key] for key in kept if key in part} for part in content]
    return {**message, "content": parts}


def names(parts: Iterable[Part]) -> str:
    return ", ".join(Path(part["path"]).name for part in parts)
