"""One example as people write it: a conversation, a question and its answer, or text.

`talks` reads the forms of a conversation, `sources` and `placing` its media, and
`fields` says what may be dropped.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ..chat.messages import REASONING, plain_messages
from ..errors import ChatError, DataError
from ..prompt.attachments import media_parts
from .fields import (
    MEDIA_FIELDS,
    check_fields,
    check_strings,
    is_file_name,
    kind_of,
    unread_fields,
)
from .placing import (
    Found,
    Message,
    marks_of,
    media_of,
    placed_within,
    texts_of,
    unread_in,
    with_media,
)
from .sources import Source, sources_of
from .talks import form_of, messages_of

MOST = 10_000_000  # characters of an example: a tokenizer takes 200 bytes for each
THOUGHT = re.compile("</?think(ing)?>")  # as other models mark theirs


class Remark(Enum):
    """What is learned of an example, and may have been meant otherwise."""

    THOUGHT = (
        "Answers hold <think>, which is learned as words: write what is thought as "
        "reasoning_content"
    )
    PLACED = (
        "Media go to marks such as <image> within a sentence, also where it only "
        "speaks of the mark"
    )


@dataclass(frozen=True)
class Record:
    """One example. `where` names its file and line; either `messages` or `text`.

    unread: its fields without a meaning here, those in its messages as messages[].NAME.
    """

    where: str
    messages: tuple[Mapping[str, Any], ...] = ()
    text: str = ""
    tools: tuple[Mapping[str, Any], ...] = ()
    thinking: bool = False
    unread: frozenset[str] = frozenset()
    remarks: frozenset[Remark] = frozenset()

    @property
    def has_media(self) -> bool:
        return any(any(media_parts(message)) for message in self.messages)

    @property
    def media(self) -> list[Source]:
        """All media, in order: the paths of files, or their contents."""
        found = [part for message in self.messages for part in media_parts(message)]
        return [part.get(kind, part.get("path")) for kind, part in found]


def record_from(values: Any, where: str, folder: Path) -> Record:
    """The example of one line of JSON; media paths are relative to `folder`.

    Raises DataError that says what is wrong with the line, without naming it.
    """
    if not isinstance(values, Mapping):
        raise DataError("is no JSON object")
    check_strings(values)
    check_fields(values)
    form = form_of(values)
    unread = frozenset(unread_fields(values, form, folder))
    if form == "text":
        return Record(where, text=_text(values), unread=unread)
    written = messages_of(values, form)
    unread |= unread_in(written, folder)
    messages = with_media(written, _media(values, folder), folder)
    try:
        plain = plain_messages(messages)
    except ChatError as error:
        raise DataError(str(error).rstrip(".")) from None
    check_length(sum(_length(message) for message in plain))
    thinking = _thinking(values.get("thinking"), plain)
    return Record(
        where,
        tuple(messages),
        tools=_tools(values),
        thinking=thinking,
        unread=unread,
        remarks=frozenset(_remarks(written, plain)),
    )


def _remarks(written: Sequence[Message], plain: Sequence[Message]) -> Iterator[Remark]:
    """`written` as the example has them, `plain` as templates get them."""
    if placed_within(written):
        yield Remark.PLACED
    answers = (m for m in plain if m["role"] == "assistant")
    if any(THOUGHT.search(text) for m in answers for text in texts_of(m)):
        yield Remark.THOUGHT


def check_length(characters: int) -> None:
    """Raises DataError for what would take all memory before it is found too long."""
    if characters > MOST:
        raise DataError(
            f"has {characters:,} characters, more than {MOST:,}: split it into several"
        )


def _text(values: Mapping[str, Any]) -> str:
    text = values["text"]
    if not isinstance(text, str) or not text:
        raise DataError("text must be text, and not empty")
    fields = [name for name in values if name in MEDIA_FIELDS or is_file_name(name)]
    fields += ["tools", "thinking", "system", "system_prompt", "history"]
    if extra := [name for name in fields if values.get(name)]:
        raise DataError(
            f"text takes no {extra[0]}: write it as messages, or what is asked as "
            "prompt and the text as completion"
        )
    if marks := marks_of(text):
        raise DataError(f"has the mark {marks[0]}, and text has no media: use messages")
    check_length(len(text))
    return text


def _media(values: Mapping[str, Any], folder: Path) -> Found:
    """The media that an example names in fields of its own."""
    found = media_of(values, "", folder)
    for field in values:
        if not is_file_name(field) or not values[field]:
            continue
        if any(found.values()):
            raise DataError(f"has {field} beside another field of media")
        names = values[field] if isinstance(values[field], list) else [values[field]]
        for name in names:
            kind = kind_of(name) if isinstance(name, str) else None
            if kind is None:
                raise DataError(f"{field} is {name!r}: its ending names no medium")
            found[kind] += sources_of(name, field, folder)
    return found


def _length(message: Mapping[str, Any]) -> int:
    content = message.get("content") or ""
    if isinstance(content, str):
        return len(content)
    parts = [p for p in content if isinstance(p, Mapping)]
    return sum(len(str(part.get("text") or "")) for part in parts)


def _tools(values: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The tools, which many tables hold as the text of their JSON."""
    tools = values.get("tools") or ()
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except ValueError:
            raise DataError("tools is no JSON") from None
    if not isinstance(tools, list | tuple):
        raise DataError("tools must be a list")
    return tuple(tools)


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
