"""What a picture, a recording or a video is read from, checked before it is decoded."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import MediaError
from .bounded import read_all
from .containers import refuse_playlist

# Brands of HEIF pictures, at bytes 8 to 12 of the file, after "ftyp".
HEIF = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
)
MOST = 2**31  # bytes taken from a pipe, which may never end


def open_source(source: str | Path | bytes, kind: str) -> tuple[Path | bytes, str]:
    """The file, or the bytes of it, and a name for messages.

    kind: "picture", "recording" or "video". A pipe, such as a shell's <(command), is
    read here: that can be done only once.

    Raises MediaError for a URL, and for what is missing, a folder, unreadable, empty or
    a playlist.
    """
    name = source_name(source, kind)
    file = source if isinstance(source, bytes) else _existing(source, name, kind)
    if not (len(file) if isinstance(file, bytes) else file.stat().st_size):
        raise MediaError(f"{name} is empty: get the file again.")
    refuse_playlist(file, name, kind)
    return file, name


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
    if not isinstance(source, str | Path):
        return f"The {kind}"
    name = str(source)
    return name if len(name) <= 200 else f"{name[:200]}…"


def _existing(source: str | Path, name: str, kind: str) -> Path | bytes:
    if is_url(str(source)):
        raise MediaError(f"{name} is a URL: download the {kind} first.")
    path = Path(source).expanduser()
    if not os.path.exists(path):  # False for what cannot be a path, too
        raise MediaError(f"There is no {kind} {name}: check the path.")
    if path.is_dir():
        raise MediaError(f"{name} is a folder: name the {kind}s in it.")
    try:
        with path.open("rb") as opened:
            if path.is_file():
                return path
            return read_all(opened, MOST)
    except OSError as error:
        raise MediaError(f"{name} cannot be read: {error.strerror}.") from error
