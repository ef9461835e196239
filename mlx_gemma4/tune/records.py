"""One example as people write it: a conversation, a question and its answer, or text.

The fields are mlx-lm's (`messages` with `tools`, `prompt` and `completion`, `text`)
and besides `images`, `audio`, `video` and `thinking`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..chat.messages import REASONING, plain_messages, with_known_role
from ..errors import ChatError, DataError
from ..prompt.attachments import KIND_OF_PART, media_parts

MEDIA_FIELDS = {"images": "image", "audio": "audio", "video": "video"}
FIELDS = frozenset(
    ("messages", "tools", "prompt", "completion", "text", "thinking", *MEDIA_FIELDS)
)


@dataclass(frozen=True)
class Record:
    """One example. `where` names its file and line; either `messages` or `text`."""

    where: str
    messages: tuple[Mapping[str, Any], ...] = ()
    text: str = ""
    tools: tuple[Mapping[str, Any], ...] = ()
    thinking: bool = False

    @property
    def has_media(self) -> bool:
        return any(any(media_parts(message)) for message in self.messages)

    @property
    def media(self) -> list[str]:
        """The paths of all media, in order."""
        found = [part for message in self.messages for part in media_parts(message)]
        return [str(part.get(kind, part.get("path"))) for kind, part in found]


def record_from(values: Any, where: str, folder: Path) -> Record:
    """The example of one line of JSON; media paths are relative to `folder`.

    Raises DataError that says what is wrong with the line, without naming it.
    """
    if not isinstance(values, Mapping):
        raise DataError("is no JSON object")
    kinds = [k for k in ("messages", "prompt", "text") if values.get(k) is not None]
    if len(kinds) != 1:
        raise DataError(
            "needs one of messages, prompt with completion, or text; it has "
            f"{' and '.join(kinds) or 'none'}"
        )
    if kinds == ["text"]:
        return _text_record(values, where)
    messages = _messages(values)
    found = {kind: _paths(values, field) for field, kind in MEDIA_FIELDS.items()}
    messages = _with_media(messages, found)
    messages = [_located(message, folder) for message in messages]
    try:
        plain = plain_messages(messages)
    except ChatError as error:
        raise DataError(str(error).rstrip(".")) from None
    tools = values.get("tools") or ()
    if not isinstance(tools, list | tuple):
        raise DataError("tools must be a list")
    thinking = _thinking(values.get("thinking"), plain)
    return Record(where, tuple(messages), tools=tuple(tools), thinking=thinking)


def _text_record(values: Mapping[str, Any], where: str) -> Record:
    text = values["text"]
    if not isinstance(text, str) or not text:
        raise DataError("text must be text, and not empty")
    extra = [name for name in (*MEDIA_FIELDS, "tools", "thinking") if values.get(name)]
    if extra:
        raise DataError(f"text takes no {extra[0]}: write it as messages")
    return Record(where, text=text)


def _messages(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if (messages := values.get("messages")) is not None:
        if not isinstance(messages, list) or not all(
            isinstance(message, Mapping) for message in messages
        ):
            raise DataError("messages must be a list of {'role': …, 'content': …}")
        return [with_known_role(message) for message in messages]
    prompt, completion = values["prompt"], values.get("completion")
    if not isinstance(prompt, str) or not isinstance(completion, str):
        raise DataError("prompt and completion must both be text")
    if not completion.strip():
        raise DataError("completion is empty: there is nothing to learn")
    return [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": completion},
    ]


def _paths(values: Mapping[str, Any], field: str) -> list[str]:
    """The media of a field, which may be one path or a list of them."""
    stated = values.get(field) or []
    paths = [stated] if isinstance(stated, str) else stated
    if not isinstance(paths, list) or not all(isinstance(p, str) for p in paths):
        raise DataError(f"{field} must be a path or a list of paths")
    return paths


def _with_media(
    messages: Sequence[Mapping[str, Any]], found: Mapping[str, list[str]]
) -> list[Mapping[str, Any]]:
    """The media go where parts without a source wait for them, or first of all.

    Gemma reads media best before the text that is about them.
    """
    if not any(found.values()):
        return list(messages)
    waiting = sum("_" in part for m in messages for part in _marked(m))
    if waiting:
        return _filled(messages, {kind: list(paths) for kind, paths in found.items()})
    parts = [{"type": kind, kind: path} for kind in found for path in found[kind]]
    for number, message in enumerate(messages):
        if message.get("role") == "user":
            content = message.get("content") or []
            if isinstance(content, str):
                content = [{"type": "text", "text": content}]
            first = {**message, "content": [*parts, *content]}
            return [*messages[:number], first, *messages[number + 1 :]]
    raise DataError("has media, but no user message to put them in")


def _filled(
    messages: Sequence[Mapping[str, Any]], left: dict[str, list[str]]
) -> list[Mapping[str, Any]]:
    result: list[Mapping[str, Any]] = []
    for message in messages:
        parts = _marked(message)
        for part in parts:
            if part.pop("_", None):
                kind = KIND_OF_PART[part["type"]]
                if not left[kind]:
                    raise DataError(f"has more parts of type {kind} than files")
                part[kind] = left[kind].pop(0)
        result.append({**message, "content": parts} if parts else message)
    if extra := [kind for kind, paths in left.items() if paths]:
        raise DataError(f"has more {extra[0]} files than parts that show them")
    return result


def _marked(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Copies of a message's parts, with a "_" in media parts without a source."""
    content = message.get("content")
    if not isinstance(content, list):
        return []
    parts = [dict(part) for part in content if isinstance(part, Mapping)]
    for part in parts:
        kind = KIND_OF_PART.get(str(part.get("type")))
        if kind and part.get(kind, part.get("path")) is None:
            part["_"] = True
    return parts


def _located(message: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """`message` with paths of media made absolute; every file has to be there."""
    media = list(media_parts(message))
    if not media:
        return message
    found: dict[int, dict[str, Any]] = {}
    for kind, part in media:
        source = part.get(kind, part.get("path"))
        if not isinstance(source, str):
            raise DataError(f"a part of type {part['type']!r} names no file")
        path = (folder / Path(source).expanduser()).absolute()
        if not path.is_file():
            raise DataError(f"there is no file {source}")
        rest = {key: value for key, value in part.items() if key not in (kind, "path")}
        found[id(part)] = {**rest, kind: str(path)}
    content = [found.get(id(part), part) for part in message["content"]]
    return {**message, "content": content}


def _thinking(stated: Any, messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the example is served with thinking on: as stated, or as it looks."""
    last = messages[-1]
    thinks = last["role"] == "assistant" and any(last.get(key) for key in REASONING)
    if stated is None:
        return thinks
    if not isinstance(stated, bool):
        raise DataError("thinking must be true or false")
    if thinks and not stated:
        raise DataError("thinking is false, but the last answer has a thought")
    return stated
