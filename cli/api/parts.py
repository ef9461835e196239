"""Messages of OpenAI's chat API to those of `stream_generate`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..serve.errors import Refused
from ..serve.media import MediaRules
from .fields import Fields

ROLES = ("system", "developer", "user", "assistant", "tool")
SAME_ROLE = {"developer": "system"}  # Gemma knows one of them
JOINT = "\n\n"  # between texts that were given apart, which templates run together
# Of what this server or another wrote itself; it says nothing to the model.
UNSAID = (
    *("id", "audio", "annotations", "name", "index", "parsed"),
    "provider_specific_fields",
)
PartReader = Callable[[Any, str, MediaRules], dict[str, Any]]
PARTS = (
    "text",
    "refusal",
    "image_url",
    "input_audio",
    "video_url",
    "audio_url",
    "file",
)


def read_messages(
    given: Sequence[Any], rules: MediaRules, part: "PartReader | None" = None
) -> list[dict[str, Any]]:
    """Raises Refused that names the place, and MediaError."""
    read = part or read_part
    messages = [
        _message(m, f"messages[{i}].", rules, read) for i, m in enumerate(given)
    ]
    if waiting := open_calls(messages):
        raise Refused(
            400,
            f"messages have no result of {', '.join(waiting):.200}: each of tool_calls "
            "needs a message of role tool behind it.",
            param="messages",
        )
    return with_one_system(messages)


def with_one_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the system says in front of a conversation as one message, which is all that
    Gemma was trained on."""
    first: list[str] = []
    for message in messages:
        if message["role"] != "system" or not isinstance(message.get("content"), str):
            break
        first.append(message["content"])
    if len(first) < 2:
        return messages
    told = JOINT.join(filter(None, first))
    return [{"role": "system", "content": told}, *messages[len(first) :]]


def open_calls(messages: Sequence[dict[str, Any]]) -> list[str]:
    """Ids of calls whose results do not follow: a model would make them up."""
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            # A result that has only its tool's name answers the next one.
            answered = message.get("tool_call_id", waiting[0] if waiting else None)
            waiting = [call for call in waiting if call != answered]
        elif waiting:
            break
        else:
            calls = message.get("tool_calls", ())
            ids = [call.get("id") for call in calls if isinstance(call, Mapping)]
            waiting = [call for call in ids if isinstance(call, str)]
    return waiting


def joined(parts: Sequence[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """A message's content: texts that follow each other in one, text alone as such."""
    found: list[dict[str, Any]] = []
    for part in parts:
        if part["type"] == "text" and found and found[-1]["type"] == "text":
            texts = found[-1]["text"].strip(), part["text"].strip()
            found[-1] = {"type": "text", "text": JOINT.join(filter(None, texts))}
        else:
            found.append(part)
    if [part["type"] for part in found] == ["text"]:
        return found[0]["text"]
    return found or ""


def _message(
    given: Any, where: str, rules: MediaRules, part: PartReader
) -> dict[str, Any]:
    fields = Fields(given, where)
    known = {"role", "content", "tool_calls", "tool_call_id", "reasoning_content"}
    fields.only(known | {"reasoning", "refusal"}, UNSAID)
    role = fields.one_of("role", ROLES)
    if role is None:
        raise fields.wrong("role", f"is missing: it is one of {', '.join(ROLES)}")
    content = _content(fields, rules, part)
    if content is None and role == "assistant":
        content = fields.text("refusal")
        content = "" if content is None and "tool_calls" not in fields else content
    message: dict[str, Any] = {"role": SAME_ROLE.get(role, role), "content": content}
    if calls := fields.list("tool_calls"):
        message["tool_calls"] = calls
    for name in ("tool_call_id", "reasoning_content", "reasoning"):
        if (text := fields.text(name)) is not None:
            message[name] = text
    if role == "tool" and (name := fields.text("name")):
        message["name"] = name
    return {key: value for key, value in message.items() if value is not None}


def _content(
    fields: Fields, rules: MediaRules, part: PartReader
) -> str | list[dict[str, Any]] | None:
    content = fields.values.get("content")
    if isinstance(content, list):
        where = f"{fields.where}content"
        parts = enumerate(content)
        return joined([part(each, f"{where}[{i}].", rules) for i, each in parts])
    if content is not None and not isinstance(content, str):
        raise fields.wrong("content", "must be a string or a list of parts")
    return content


def read_part(given: Any, where: str, rules: MediaRules) -> dict[str, Any]:
    """A part of a message's content. Raises as `read_messages`."""
    fields = Fields(given, where)
    kind = fields.one_of("type", PARTS)
    if kind is None:
        raise fields.wrong("type", f"is missing: it is one of {', '.join(PARTS)}")
    fields.only({"type", kind}, ("cache_control", "annotations"))
    if kind in ("text", "refusal"):
        text = fields.text(kind)
        if text is None:
            raise fields.wrong(kind, "is missing")
        return {"type": "text", "text": text}
    if isinstance(fields.values.get(kind), str) and kind.endswith("_url"):
        return _of_url(kind, fields.values[kind], f"{where}{kind}", rules)
    inner = fields.object(kind)
    if inner is None:
        raise fields.wrong(kind, "is missing")
    if kind == "input_audio":
        inner.only({"data", "format"})
        return rules.from_base64(
            "audio", inner.values.get("data"), f"{where}{kind}.data"
        )
    if kind == "file":
        inner.only({"file_data", "filename"})
        data = inner.values.get("file_data")
        return rules.from_base64("image", data, f"{where}{kind}.file_data")
    # How closely a picture is looked at is said by the server's --image-tokens.
    inner.only({"url"}, ("detail", "mime_type"))
    return _of_url(kind, inner.values.get("url"), f"{where}{kind}.url", rules)


def _of_url(kind: str, url: Any, where: str, rules: MediaRules) -> dict[str, Any]:
    medium = kind.removesuffix("_url")
    assert medium in ("image", "audio", "video")
    return rules.from_url(medium, url, where)
