"""Which fields of an example are read, and which may not be passed over.

Others are dropped with a note: an id, a licence, a topic. What decides the result is
an error instead: nothing is learned without the picture that it speaks about.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..media import KIND_OF_SUFFIX, Kind

MEDIA_FIELDS: dict[str, Kind] = {
    **{"image": "image", "images": "image"},
    **{"audio": "audio", "audios": "audio"},
    **{"video": "video", "videos": "video"},
}
FILE_NAMES = ("file_name", "file_names")
QUESTIONS = ("prompt", "instruction", "question", "query", "user", "input")
MORE = ("input", "context")  # a text that a question is about
ANSWERS = ("completion", "response", "output", "answer", "assistant")
TALKS = ("messages", "conversations", "texts")
SYSTEMS = ("system", "system_prompt")
BESIDE = (*SYSTEMS, *MEDIA_FIELDS, "tools", "thinking", "history")
FIELDS = frozenset((*TALKS, *QUESTIONS, *MORE, *ANSWERS, *BESIDE, "text"))
PREFERENCE = (
    "preferences between answers are not learned here; write the good one as completion"
)
# Fields that mean something elsewhere, which would be lost without a word.
REFUSED = {
    **dict.fromkeys(("chosen", "rejected"), PREFERENCE),
    **dict.fromkeys(("rejected_response", "rejected_messages"), PREFERENCE),
    "kto_tag": "keep the examples that are good, and drop the field",
    "label": "keep the examples that are good, and drop the field",
    "completions": "write one completion",
    **dict.fromkeys(
        ("reasoning", "reasoning_content"),
        "write messages, with the thought as reasoning of the assistant's",
    ),
    "functions": "write tools",
}
# The same in a message.
REFUSED_INSIDE = {
    "function_call": "write tool_calls",
    **dict.fromkeys(
        ("weight", "train", "training", "loss"),
        "every answer of a conversation is learned; end it before this one, or drop it",
    ),
    "train_detail": "every answer is learned whole",
}
NOTHING: tuple[Any, ...] = (None, "", [], {})
NOT_READ = (
    "which is not read: call the field images, audio or video, or remove it if nothing "
    "is missed without it"
)
PATH = re.compile(r"[^\s:]*[./][^\s:]*")  # what may be one; a stat for each is dear
LONGEST_NAME = 1024  # characters of a string that may be the name of a file


def is_file_name(field: str) -> bool:
    """Whether a field names files of any kind, as in Hugging Face's imagefolder."""
    return field in FILE_NAMES or field.endswith(tuple(f"_{n}" for n in FILE_NAMES))


def kind_of(name: str) -> Kind | None:
    """What kind of medium a file is by its name."""
    return KIND_OF_SUFFIX.get(os.path.splitext(name.partition("?")[0])[1].lower())


def check_fields(values: Mapping[str, Any]) -> None:
    """Raises DataError for a field that means something elsewhere, and not here."""
    for name, value in values.items():
        if name not in REFUSED or value in NOTHING:
            continue
        if name != "label" or _is_truth(value):
            raise DataError(f"has {name}, which is not read: {REFUSED[name]}")


def unread_fields(values: Mapping[str, Any], form: str, folder: Path) -> set[str]:
    """Fields that have a value, but no meaning in an example of this form.

    Raises DataError for one that must not be dropped: it names a medium or a file of
    `folder` that no other field names.
    """
    known = {form, *BESIDE}
    if form in QUESTIONS:
        known |= {*ANSWERS, *MORE}
    unread = {
        name
        for name, value in values.items()
        if not (name in known or is_file_name(name) or value in NOTHING)
    }
    read = {name: value for name, value in values.items() if name not in unread}
    for name in unread:
        _refuse_media(name, values[name], folder, read)
    return unread


def unread_inside(
    message: Mapping[str, Any], where: str, known: set[str], folder: Path
) -> set[str]:
    """The same of a message, or of a part of one."""
    unread = set()
    for name, value in message.items():
        if name in known or value in NOTHING:
            continue
        learned = name in ("weight", "train", "training", "loss") and bool(value)
        if name in REFUSED_INSIDE and not learned:
            raise DataError(f"has {where}.{name}: {REFUSED_INSIDE[name]}")
        _refuse_media(f"{where}.{name}", value, folder, message.get("content"))
        if not learned:
            unread.add(name)
    return unread


def _refuse_media(name: str, value: Any, folder: Path, read: Any) -> None:
    """Raises DataError where `value` holds a medium that what is `read` does not."""
    for text in _strings(value):
        if _names_file(text, folder) and not _is_named(text, read):
            shown = text if len(text) <= 60 else f"{text[:60]}…"
            raise DataError(f"names {shown} in {name}, {NOT_READ}")
    if isinstance(value, Mapping) and value.get("bytes") is not None:
        raise DataError(f"has a file in {name}, {NOT_READ}")


def _names_file(text: str, folder: Path) -> bool:
    if text.startswith("data:"):
        return True
    if len(text) > LONGEST_NAME:
        return False
    path_like = PATH.fullmatch(text) and os.path.isfile(folder / text)
    return bool(path_like) or kind_of(text.strip()) is not None


def _is_named(text: str, read: Any) -> bool:
    """Whether a file of this name is read: sets often give the name twice."""
    return any(
        len(other) <= LONGEST_NAME and os.path.basename(other) == os.path.basename(text)
        for other in _strings(read)
    )


def _is_truth(value: Any) -> bool:
    """Whether this is a yes or no; in a CSV, that is a word."""
    return isinstance(value, bool) or str(value).lower() in ("true", "false")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _strings(each)


BROKEN = re.compile("[\0\ud800-\udfff]")


def check_strings(values: Mapping[str, Any]) -> None:
    """Raises DataError for text that no tokenizer takes."""
    for name, value in values.items():
        for text in _strings(value):
            if found := BROKEN.search(text):
                what = "a NUL character" if found[0] == "\0" else "half a character"
                raise DataError(
                    f"has {what} ({found[0]!r}) in {name}: write the text anew as UTF-8"
                )
