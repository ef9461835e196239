"""What an MCP server answers, in the words and parts that a model reads."""

import json
from typing import TYPE_CHECKING, Any

from .result import Result

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ContentBlock, ResourceLink

Part = dict[str, Any]

KINDS = ("image", "audio", "video")  # of media types that are parts of messages, too


def result_of(answer: "CallToolResult") -> Result:
    """Texts one below the other, and pictures and sound as parts of a message.

    What is structured stands in the texts as well, as the protocol asks for; where it
    does not, it is written as JSON. A file of another kind is named, and its size said.
    """
    texts: list[str] = []
    media: list[Part] = []
    for block in answer.content:
        text, part = _read(block)
        texts += [text] if text else []
        media += [part] if part else []
    if answer.structured_content is not None and not texts:
        texts = [json.dumps(answer.structured_content, ensure_ascii=False)]
    return Result("\n".join(texts), answer.is_error, media)


def _read(block: "ContentBlock") -> tuple[str, Part | None]:
    """Its text, and the part that it is."""
    if block.type == "text":
        return block.text, None
    if block.type == "resource_link":
        return _link(block), None
    if block.type != "resource":
        return _medium(block.type, block.mime_type, block.data)
    resource = block.resource
    text = getattr(resource, "text", None)
    if text is None:
        return _medium(resource.uri, resource.mime_type, resource.blob)
    return f"{resource.uri}:\n{text}", None


def _medium(name: str, kind: str | None, data: str) -> tuple[str, Part | None]:
    """A part for what a model may see or hear; of anything else, what it is."""
    part = (kind or "").partition("/")[0]
    if part in KINDS:
        return "", {"type": part, part: f"data:{kind};base64,{data}"}
    size = len(data) * 3 // 4
    return f"({name}: {kind or 'unknown'}, {size:,} bytes that cannot be shown.)", None


def _link(link: "ResourceLink") -> str:
    said = [link.title or link.name, link.mime_type, link.description]
    return f"({link.uri}: {', '.join(filter(None, said))})"
