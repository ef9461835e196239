"""Media as data sets write them: a path, the bytes of a file, or a part that has one.

Hugging Face's columns have {"bytes": …, "path": …}, OpenAI's parts {"url": …} and
{"data": …}; bytes are base64 in JSON.
"""

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..reading.sources import is_url, source_name

Source = str | bytes  # the absolute path of a file that is there, or its contents
CONTENTS = ("bytes", "data", "base64")
NAMES = ("path", "url")
LONG = 256  # characters; what is longer and base64 throughout is no path


def sources_of(value: Any, field: str, folder: Path) -> list[Source]:
    """The media of a field, which has one or a list of them.

    Raises DataError that names the field, or the file that is not there.
    """
    if value is None or value == "":
        return []
    if isinstance(value, list):
        return [
            source_of(each, f"{field}[{i}]", folder) for i, each in enumerate(value)
        ]
    return [source_of(value, field, folder)]


def source_of(value: Any, field: str, folder: Path) -> Source:
    """One medium. Paths are relative to `folder`. Raises DataError."""
    if isinstance(value, str):
        return _from_text(value, field, folder)
    if not isinstance(value, Mapping):
        raise DataError(
            f"{field} must be a path, {{'bytes': …}} or a list of them, not a "
            f"{type(value).__name__}"
        )
    if (given := _only(value, CONTENTS, field)) is not None:
        return _contents(given, field)
    if (given := _only(value, NAMES, field)) is not None:
        return source_of(given, field, folder)
    if value.get("array") is not None:
        raise DataError(
            f"{field} is an array of samples: give the path of its file, or the "
            "bytes of it as base64"
        )
    raise DataError(f"{field} has neither path nor bytes")


def _only(value: Mapping[str, Any], names: tuple[str, ...], field: str) -> Any:
    stated = [name for name in names if value.get(name) is not None]
    if len(stated) > 1:
        raise DataError(f"{field} has {' and '.join(stated)}: give one")
    return value[stated[0]] if stated else None


def _from_text(text: str, field: str, folder: Path) -> Source:
    if text.startswith("data:"):
        head, comma, data = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise DataError(f"{field} is a data URL without base64")
        return _contents(data, field)
    if is_url(text):
        raise DataError(
            f"{field} is the URL {source_name(text, 'file')}: download the file and "
            "name it"
        )
    path = os.path.expanduser(text.removeprefix("file://"))
    found = os.path.abspath(folder / path)
    if os.path.isfile(found):
        return found
    if len(text) >= LONG and (contents := _decoded(text)):
        return contents
    raise DataError(f"there is no file {source_name(text, 'file')} ({field})")


def _contents(value: Any, field: str) -> bytes:
    contents = value if isinstance(value, bytes) else None
    if isinstance(value, str):
        if value.startswith("data:"):
            value = value.partition(",")[2]
        contents = _decoded(value)
    elif isinstance(value, list):
        try:
            contents = bytes(value)
        except (TypeError, ValueError):
            contents = None
    if not contents:
        raise DataError(f"{field} holds no file: bytes are written as base64")
    return contents


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
