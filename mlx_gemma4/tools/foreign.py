"""What MCP servers declare and answer, in what a model reads.

What chat templates have no words for in a declaration, as a default or a limit, becomes
a part of its description: its author did not write it for this model.
"""

import json
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..chat.schemas import NOTES, SAID, Schema
from ..chat.tools import ToolWarning, plain_tools
from .result import Result

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ContentBlock, ResourceLink

Part = dict[str, Any]

KINDS = ("image", "audio", "video")  # of media types that are parts of messages, too
WORDS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
}


def declaration(name: str, description: str, schema: Mapping[str, Any]) -> Schema:
    """In OpenAI's shape. Raises ChatError for a schema that no template can write."""
    stated = {"name": name, "description": description, "inputSchema": schema}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ToolWarning)
        (plain,) = plain_tools([stated])
    function = plain["function"]
    if parameters := function.get("parameters"):
        said = _said(parameters)
        if added := said.pop("description", ""):
            function["description"] = f"{description}\n{added}".strip()
        function["parameters"] = said
    return plain


def _said(schema: Schema) -> Schema:
    """Without the keys that no template writes, which its description now says."""
    said = {key: value for key, value in schema.items() if key in SAID}
    if "properties" in said:
        inside: dict[str, Schema] = said["properties"]
        said["properties"] = {name: _said(value) for name, value in inside.items()}
    left = {k: v for k, v in schema.items() if k not in SAID and not _is_note(k, v)}
    if left:
        words = "; ".join(f"{WORDS.get(k, k)} {_text(v)}" for k, v in left.items())
        text = str(said.get("description", "")).strip()
        said["description"] = f"{text} ({words})".strip()
    return said


def _is_note(key: str, value: object) -> bool:
    return key in NOTES and (key in ("$defs", "definitions") or type(value) is not dict)


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


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
    from mcp_types import BlobResourceContents

    if block.type == "text":
        return block.text, None
    if block.type == "resource_link":
        return _link(block), None
    if block.type != "resource":
        return _medium(block.type, block.mime_type, block.data)
    resource = block.resource
    if isinstance(resource, BlobResourceContents):
        return _medium(resource.uri, resource.mime_type, resource.blob)
    return f"{resource.uri}:\n{resource.text}", None


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
