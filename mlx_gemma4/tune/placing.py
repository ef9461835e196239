"""Where the media of an example stand in its conversation.

In parts of messages; where parts without a file or marks such as LLaVA's <image> wait
for them; or first of all: Gemma reads media best before the text that is about them.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..chat.messages import REASONING
from ..errors import DataError
from ..media import Kind
from ..prompt.attachments import KIND_OF_PART, media_parts
from ..reading.sources import source_name
from .fields import MEDIA_FIELDS, unread_inside
from .sources import Source, source_of, sources_of

Message = Mapping[str, Any]
Found = dict[Kind, list[Source]]

KIND_OF_MARK: dict[str, Kind] = {
    **{"<image>": "image", "<|image|>": "image", "<start_of_image>": "image"},
    **{"<audio>": "audio", "<|audio|>": "audio"},
    **{"<video>": "video", "<|video|>": "video"},
}
MARK = re.compile("|".join(map(re.escape, KIND_OF_MARK)))
# Words of one sentence on both sides: it may be a place, or speak of the mark itself.
WITHIN = re.compile(rf"[^\s.:?!>][ \t]*(?:(?:{MARK.pattern})[ \t]*)+[^\s<]")
# Those of other models: to leave them in a text is to learn it without the medium.
FOREIGN = re.compile(
    r"<\|?(?:image|audio|video)[ _-]?\d+\|?>|<\|(?:image|video)_pad\|>"
    r"|<\|vision_start\|>|<image_soft_token>|<audio_soft_token>|<\|AUDIO\|>"
    r"|<\|audio_bos\|>|\[IMG\]"
)
KIND_OF_TYPE: dict[str, Kind] = {
    **KIND_OF_PART,
    **{"audio_url": "audio", "video_url": "video"},
}
VIDEO: Kind = "video"
STILL = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".heic")
SOURCES = ("path", "url", "bytes", "base64", "data", "source")
OPTIONS = {"num_frames", "fps", "type", "detail", "format", "index"}
TEXT_KEYS = {"type", "text"}
KNOWN = {
    *("role", "content", "name", "tool_calls", "tool_call_id", "tool_responses"),
    *REASONING,
    *MEDIA_FIELDS,
}


def with_media(
    messages: Sequence[Message], found: Found, folder: Path
) -> list[Message]:
    """`messages` whose media are all parts with a file or its bytes.

    found: media that the example names beside its messages. Raises DataError.
    """
    located = [_located(message, i, folder) for i, message in enumerate(messages)]
    placed = [_own(message, i, folder) for i, message in enumerate(located)]
    result = _placed(placed, found)
    for number, message in enumerate(result):
        _refuse_marks(message, number, any(map(_has_media, result)))
        for _, part in media_parts(message):
            if "_" in part:
                raise DataError(f"a part of type {part['type']!r} names no file")
    return result


def unread_in(messages: Sequence[Message], folder: Path) -> set[str]:
    """Fields of messages and their parts without a meaning. Raises DataError for one
    that must not be dropped."""
    unread: set[str] = set()
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        found = unread_inside(message, where, KNOWN, folder)
        unread |= {f"messages[].{name}" for name in found}
        content = message.get("content")
        for i, part in enumerate(content if isinstance(content, list) else ()):
            if _is_map(part):
                kind = KIND_OF_TYPE.get(str(part.get("type")))
                known = TEXT_KEYS if kind is None else OPTIONS | {*_names(kind)}
                found = unread_inside(part, f"{where}.content[{i}]", known, folder)
                unread |= {f"messages[].content[].{name}" for name in found}
    return unread


def placed_within(messages: Sequence[Message]) -> bool:
    """Whether a mark has the words of a sentence on both sides."""
    texts = (text for m in messages if _is_asked(m) for text in texts_of(m))
    return any(marks_of(text) and WITHIN.search(text) for text in texts)


def _located(message: Message, number: int, folder: Path) -> Message:
    """`message` with the media of its parts found, and a "_" in those without any."""
    where = f"messages[{number}]"
    content = message.get("content")
    if not isinstance(content, list):
        return message
    parts = []
    for i, part in enumerate(content):
        kind = KIND_OF_TYPE.get(str(part.get("type"))) if _is_map(part) else None
        if kind is None:
            parts.append(part)
        else:
            parts.append(_part(part, kind, f"{where}.content[{i}]", folder))
    return {**message, "content": parts}


def _part(
    part: Mapping[str, Any], kind: Kind, where: str, folder: Path
) -> dict[str, Any]:
    stated = [name for name in _names(kind) if part.get(name) is not None]
    if len(stated) > 1:
        raise DataError(f"{where} has {' and '.join(stated)}: give one")
    if part.get("text"):
        raise DataError(f"{where} has a text as well: give it a part of its own")
    options = {k: part[k] for k in ("num_frames", "fps") if k in part}
    if not stated:
        return {"type": kind, "_": True, **options}
    name, value = stated[0], part[stated[0]]
    contents = {name: value} if name in ("bytes", "base64", "data") else value
    return {
        "type": kind,
        kind: source_of(contents, f"{where}.{name}", folder),
    } | options


def _names(kind: Kind) -> tuple[str, ...]:
    """The fields of a part that may hold its medium."""
    return (kind, f"{kind}_url", f"input_{kind}", *SOURCES)


def _own(message: Message, number: int, folder: Path) -> Message:
    """`message` with the media that it names itself, as Ollama's do."""
    found = media_of(message, f"messages[{number}].", folder)
    rest = {k: v for k, v in message.items() if k not in MEDIA_FIELDS}
    if not any(found.values()):
        return rest
    if rest.get("role") != "user":
        raise DataError(f"messages[{number}] has media, and is no user message")
    return _placed([rest], found)[0]


def media_of(values: Mapping[str, Any], where: str, folder: Path) -> Found:
    """The media that fields name, by kind. Raises DataError."""
    found: Found = {"image": [], "audio": [], "video": []}
    for field, kind in MEDIA_FIELDS.items():
        media = sources_of(values.get(field), f"{where}{field}", folder)
        if media and found[kind]:
            raise DataError(f"has {where}{field} beside another field of {kind}s")
        found[kind] += media
    for media in found["video"]:
        if isinstance(media, str) and media.lower().endswith(STILL):
            raise DataError(f"names {source_name(media, 'file')} as a video")
    return found


def _placed(messages: Sequence[Message], found: Found) -> list[Message]:
    count = sum(map(len, found.values()))
    if not count:
        return list(messages)
    waiting = sum("_" in part for m in messages for part in _parts(m))
    marked = [m for m in messages if _is_asked(m) and _marks(m)]
    if waiting and marked:
        raise DataError("has parts and marks that wait for media: leave one of them")
    if marked:
        return _at_marks(messages, found)
    if waiting:
        return _filled(messages, found)
    parts = [
        {"type": kind, kind: each} for kind, all_ in found.items() for each in all_
    ]
    for number, message in enumerate(messages):
        if message.get("role") == "user":
            first = {**message, "content": [*parts, *_parts(message)]}
            return [*messages[:number], first, *messages[number + 1 :]]
    raise DataError("has media, but no user message to put them in")


def _at_marks(messages: Sequence[Message], found: Found) -> list[Message]:
    left: Found = {kind: list(media) for kind, media in found.items()}
    kinds: dict[str, Kind] = dict(KIND_OF_MARK)
    marks = [mark for m in messages if _is_asked(m) for mark in _marks(m)]
    if {kinds[mark] for mark in marks} == {"image"} and not left["image"]:
        kinds = dict.fromkeys(kinds, VIDEO)  # LLaVA marks videos with <image> too
    for kind, media in left.items():
        count = sum(kinds[mark] == kind for mark in marks)
        if count != len(media):
            raise DataError(
                f"has {count} marks for media of kind {kind} in its texts, and names "
                f"{len(media)}"
            )
    result = []
    for message in messages:
        if not _is_asked(message) or not _marks(message):
            result.append(message)
            continue
        parts = [part for each in _parts(message) for part in _split(each, kinds, left)]
        result.append({**message, "content": parts})
    return result


def _split(
    part: Mapping[str, Any], kinds: Mapping[str, Kind], left: Found
) -> list[Mapping[str, Any]]:
    """A part of text as texts and the media at its marks, taken from `left`."""
    text = part.get("text")
    if not isinstance(text, str) or not marks_of(text):
        return [part]
    result: list[Mapping[str, Any]] = []
    position = 0
    for mark in MARK.finditer(text):
        result.append({"type": "text", "text": text[position : mark.start()].strip()})
        kind = kinds[mark[0]]
        result.append({"type": kind, kind: left[kind].pop(0)})
        position = mark.end()
    result.append({"type": "text", "text": text[position:].strip()})
    return [part for part in result if part["type"] != "text" or part["text"]]


def _filled(messages: Sequence[Message], found: Found) -> list[Message]:
    left = {kind: list(media) for kind, media in found.items()}
    result: list[Message] = []
    for message in messages:
        parts = [dict(part) for part in _parts(message)]
        for part in parts:
            if part.pop("_", None):
                kind = KIND_OF_PART[part["type"]]
                if not left[kind]:
                    raise DataError(f"has more parts of type {kind} than files")
                part[kind] = left[kind].pop(0)
        held = isinstance(message.get("content"), list)
        result.append({**message, "content": parts} if held else message)
    if extra := [kind for kind, media in left.items() if media]:
        raise DataError(f"has more {extra[0]} files than parts that show them")
    return result


def _refuse_marks(message: Message, number: int, has_media: bool) -> None:
    """Raises DataError for a mark of a medium that is not there."""
    for text in texts_of(message):
        if found := FOREIGN.search(text):
            raise DataError(
                f"has {found[0]} in messages[{number}], a mark of another model: "
                "write <image>, <audio> or <video>, and name the file"
            )
        if (marks := marks_of(text)) and (_is_asked(message) or has_media):
            kind = KIND_OF_MARK[marks[0]]
            raise DataError(
                f"has the mark {marks[0]} in messages[{number}] without a file for it: "
                f"name it in {kind}{'' if kind == 'audio' else 's'}, or take the mark "
                "out"
            )


def _is_asked(message: Message) -> bool:
    return message.get("role") in ("user", "tool")


def _has_media(message: Message) -> bool:
    return any(media_parts(message))


def _marks(message: Message) -> list[str]:
    return [mark for text in texts_of(message) for mark in marks_of(text)]


def marks_of(text: str) -> list[str]:
    """The marks in a text; none where one has an end tag, and is markup."""
    marks: list[str] = MARK.findall(text)
    return [] if any(f"</{mark[1:]}" in text for mark in marks) else marks


def texts_of(message: Message) -> list[str]:
    return [str(part["text"]) for part in _parts(message) if part.get("text")]


def _parts(message: Message) -> list[Mapping[str, Any]]:
    """The parts of a message; of a text, one."""
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [p for p in content if _is_map(p)] if isinstance(content, list) else []


def _is_map(part: Any) -> bool:
    return isinstance(part, Mapping)
