"""What a picture, a recording or a video is read from, checked before it is decoded."""

import base64
import binascii
import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote_to_bytes

from ..errors import MediaError
from .bounded import opened, read_all
from .containers import refuse_playlist
from .home import with_home
from .pointers import START as LFS

# Brands of HEIF pictures, at bytes 8 to 12 of the file, after "ftyp".
HEIF = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
)
WEB_PAGE = rb"(\xef\xbb\xbf)?\s*(<!doctype html|<html)"
MOST = 2**31  # bytes taken from a pipe, which may never end


def open_source(source: str | Path | bytes, kind: str) -> tuple[Path | bytes, str]:
    """The file, or the bytes of it, and a name for messages.

    kind: "picture", "recording" or "video". A data URL is decoded. A pipe, such as a
    shell's <(command), is read here: that can be done only once. A name that differs
    from a file's only as `find_alike` says stands for that file.

    Raises MediaError for a URL, for what is missing, a folder, unreadable or empty,
    and for what stands in a medium's place: a playlist, a Git LFS pointer, a web page.
    """
    name = source_name(source, kind)
    file: Path | bytes
    if isinstance(source, bytes):
        file = source
    elif is_data_url(source):
        file = data_of(str(source), name)
    else:
        file = _existing(source, name, kind)
    if not (len(file) if isinstance(file, bytes) else file.stat().st_size):
        raise MediaError(f"{name} is empty: get the file again.")
    refuse_playlist(file, name, kind)
    _refuse_substitute(file, name, kind)
    return file, name


def is_data_url(source: object) -> bool:
    return isinstance(source, str) and source[:5].lower() == "data:" and "," in source


def data_of(url: str, name: str) -> bytes:
    """What a data URL holds. Raises MediaError for base64 that is none."""
    head, _, data = url.partition(",")
    if head.lower().rstrip().endswith(";base64"):
        return from_base64(data, name)
    return unquote_to_bytes(data)


def from_base64(text: str, name: str) -> bytes:
    """As it is written in JSON and URLs: in lines or not, padded or not, in either
    alphabet. Raises MediaError for anything else."""
    plain = "".join(unquote_to_bytes(text).decode("latin-1").split()).rstrip("=")
    plain = plain.replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise MediaError(f"{name} is given as base64 that is none.") from None


def find_alike(path: Path) -> Path | None:
    """The one file beside a missing one whose name looks the same: it has other blanks
    (macOS puts a narrow one into names of screenshots), other apostrophes, or composes
    its accents in another way. None if there is none, or more than one."""
    wanted = _look(path.name)
    try:
        alike = [p for p in path.parent.iterdir() if _look(p.name) == wanted]
    except (OSError, ValueError):
        return None
    return alike[0] if len(alike) == 1 else None


def _look(name: str) -> str:
    plain = unicodedata.normalize("NFC", re.sub(r"\s", " ", name))
    return plain.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


def _refuse_substitute(file: Path | bytes, name: str, kind: str) -> None:
    try:
        with opened(file) as stream:
            start = stream.read(64)
    except OSError as error:
        raise MediaError(f"{name} cannot be read: {error.strerror}.") from error
    if start.startswith(LFS):
        raise MediaError(
            f"{name} is a Git LFS pointer, not the {kind} itself: run git lfs pull."
        )
    if re.match(WEB_PAGE, start, re.IGNORECASE):
        raise MediaError(
            f"{name} is a web page, not a {kind}: save the {kind} that it shows."
        )


def is_url(word: str) -> bool:
    return word.lower().startswith(("http://", "https://"))


def stated_seconds(metadata: Mapping[str, str]) -> float:
    """When a stream of a Matroska or WebM file ends, as PyAV gives its tags; 0 if they
    do not say. Their readers take the end of a file for its end."""
    time = re.fullmatch(r"(\d{1,4}):(\d\d):(\d\d\.?\d*)", metadata.get("DURATION", ""))
    if time is None:
        return 0.0
    hours, minutes, seconds = map(float, time.groups())
    return hours * 3600 + minutes * 60 + seconds


def source_name(source: object, kind: str) -> str:
    """A path as given, cut to a readable length; of anything else "The picture"."""
    if not isinstance(source, str | Path) or is_data_url(source):
        return f"The {kind}"
    name = str(source)
    return name if len(name) <= 200 else f"{name[:200]}…"


def _existing(source: str | Path, name: str, kind: str) -> Path | bytes:
    if is_url(str(source)):
        raise MediaError(f"{name} is a URL: download the {kind} first.")
    path = with_home(source)
    if not os.path.exists(path):  # False for what cannot be a path, too
        path = find_alike(path) or path
    if not os.path.exists(path):
        raise MediaError(f"There is no {kind} {name}: check the path.")
    if path.is_dir():
        raise MediaError(f"{name} is a folder: name the {kind}s in it.")
    try:
        with path.open("rb") as stream:
            return path if path.is_file() else read_all(stream, MOST)
    except OSError as error:
        raise MediaError(f"{name} cannot be read: {error.strerror}.") from error
