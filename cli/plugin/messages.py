"""Prompts of `llm` as conversations, tools and forms as the model takes them."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llm
from llm.parts import (
    AttachmentPart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

from mlx_gemma4.errors import MediaError
from mlx_gemma4.prompt.attachments import KIND_OF_PART
from mlx_gemma4.tools.foreign import declaration

from ..media_formats import START, kind_of_content, kind_of_file
from ..serve.engine import Asked


def asked_of(
    prompt: llm.Prompt, conversation: llm.Conversation | llm.AsyncConversation | None
) -> Asked:
    """All that is asked for. Raises MediaError, and ChatError for a tool that cannot be
    declared."""
    options = prompt.options.model_dump(exclude_none=True)
    if (think := options.pop("think", None)) is not None:
        options["thinking"] = think
    if options.get("kv_bits") == 0:
        del options["kv_bits"]
    schema = schema_of(prompt, conversation)
    return Asked(
        messages=messages_of(prompt),
        tools=tools_of(prompt) or None,
        options=options,
        form={} if schema is None else {"schema": schema},
    )


def messages_of(prompt: llm.Prompt) -> list[dict[str, Any]]:
    """The whole conversation. A system instruction that goes with this turn takes the
    place of an earlier one. Raises MediaError."""
    messages = [said for each in prompt.messages for said in _said(each)]
    if prompt.system:
        messages = [m for m in messages if m["role"] != "system"]
        messages.insert(0, {"role": "system", "content": prompt.system})
    return messages


def tools_of(prompt: llm.Prompt) -> list[dict[str, Any]]:
    """Declarations; `llm` takes descriptions as they are indented in the source."""
    return [
        declaration(
            tool.name, inspect.cleandoc(tool.description or ""), tool.input_schema
        )
        for tool in prompt.tools
    ]


def schema_of(
    prompt: llm.Prompt, conversation: llm.Conversation | llm.AsyncConversation | None
) -> dict[str, Any] | None:
    """The schema of this answer. `llm` states it in the first round of a turn only,
    though it is the answer after the tools' results that is to have it."""
    rounds = [prompt]
    if conversation is not None:
        rounds += [each.prompt for each in reversed(conversation.responses)]
    for each in rounds:
        if each.schema or not each.tool_results:
            assert each.schema is None or isinstance(each.schema, dict)
            return each.schema
    return None


def _said(message: llm.Message) -> Iterator[dict[str, Any]]:
    """A message, in several where tools' results stand in it: each is one here."""
    parts: list[Part] = []
    shown: list[llm.Attachment] = []
    for part in message.parts:
        if not isinstance(part, ToolResultPart):
            parts.append(part)
            continue
        if parts:
            yield _message(message.role, parts)
            parts = []
        yield _result(part)
        shown += part.attachments
    if shown:  # by tools: only a user's message holds media in every template
        yield _message("user", [AttachmentPart(each) for each in shown])
    if parts:
        yield _message(message.role, parts)


def _message(role: str, parts: list[Part]) -> dict[str, Any]:
    text = "".join(part.text for part in parts if isinstance(part, TextPart))
    content: str | list[dict[str, Any]] = text
    if any(isinstance(part, AttachmentPart) for part in parts):
        content = _content(parts)
    said: dict[str, Any] = {"role": role, "content": content}
    if thought := "".join(p.text for p in parts if isinstance(p, ReasoningPart)):
        said["reasoning"] = thought
    calls = [part for part in parts if isinstance(part, ToolCallPart)]
    if calls:
        said["tool_calls"] = [
            {
                "type": "function",
                "id": call.tool_call_id,
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in calls
        ]
    return said


def _result(part: ToolResultPart) -> dict[str, Any]:
    said = {"role": "tool", "name": part.name, "content": part.output}
    return said | ({"tool_call_id": part.tool_call_id} if part.tool_call_id else {})


def _content(parts: list[Part]) -> list[dict[str, Any]]:
    """Text and media. Where one text comes first, as `llm` has it from its options, it
    goes behind the media that it is about, as Gemma was trained."""
    content: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, TextPart):
            content.append({"type": "text", "text": part.text})
        elif isinstance(part, AttachmentPart) and part.attachment is not None:
            content.append(_medium(part.attachment))
    kinds = [part["type"] for part in content]
    if kinds[:1] == ["text"] and kinds.count("text") == 1:
        return [*content[1:], content[0]]
    return content


def _medium(attachment: llm.Attachment) -> dict[str, Any]:
    """By what is in it: `llm` does not know every kind of file."""
    stated = KIND_OF_PART.get((attachment.type or "").partition("/")[0])
    source: str | bytes
    if attachment.path:
        name = source = attachment.path
        kind = kind_of_file(Path(source)) or stated
    else:
        name = attachment.url or "the attachment"
        source = _bytes(attachment, name)
        kind = kind_of_content(source[:START], stated)
    if kind is None:
        raise MediaError(
            f"{name} is no picture, recording or video. Pass a text with `llm -f`."
        )
    return {"type": kind, kind: source}


def _bytes(attachment: llm.Attachment, name: str) -> bytes:
    try:
        return attachment.content_bytes() or b""
    except Exception as error:  # of whatever `llm` fetches it with
        raise MediaError(f"{name} cannot be fetched: {error}") from None
