"""What kind of medium a file is: by its first bytes, or by its name.

What the bytes say comes first. Only of a container that may hold a film or sound alone
does the name say which.
"""

import re
from pathlib import Path
from typing import NamedTuple

from mlx_gemma4.media import KIND_OF_SUFFIX, Kind
from mlx_gemma4.reading.sources import HEIF

START = 1024  # bytes that tell what a file is


class FileFormat(NamedTuple):
    """A format: its kind, if it is a medium, its name, and a pattern of its start."""

    kind: Kind | None
    name: str
    start: bytes


# The first that fits counts: an MP4 video is what begins like one and is nothing else.
FORMATS = (
    FileFormat("image", "a PNG picture", rb"\x89PNG"),
    FileFormat("image", "a JPEG picture", rb"\xff\xd8\xff"),
    FileFormat("image", "a GIF picture", rb"GIF8[79]a"),
    FileFormat("image", "a WebP picture", rb"RIFF....WEBP"),
    FileFormat("image", "a TIFF picture", rb"II\*\0|MM\0\*"),
    FileFormat(
        "image", "a HEIC picture", rb"\0...ftyp(" + b"|".join(sorted(HEIF)) + b")"
    ),
    FileFormat("image", "an AVIF picture", rb"\0...ftypavi[fs]"),
    FileFormat("image", "a PDF document", rb"(\xef\xbb\xbf)?\s*%PDF-"),
    FileFormat("audio", "a WAV recording", rb"(RIFF|RF64)....WAVE"),
    FileFormat("audio", "a FLAC recording", rb"fLaC"),
    FileFormat("video", "an Ogg video", rb"OggS\0.{23}\x80theora"),
    FileFormat("audio", "an Ogg recording", rb"OggS\0"),
    FileFormat("audio", "an MP3 recording", rb"ID3[\2-\4]|\xff[\xfb\xf3\xf2]"),
    FileFormat("audio", "an AAC recording", rb"\xff[\xf1\xf9]|\0...ftypM4[AB]"),
    FileFormat("audio", "an AIFF recording", rb"FORM....AIF[FC]"),
    FileFormat("audio", "a CAF recording", rb"caff\0"),
    FileFormat("video", "an AVI video", rb"RIFF....AVI "),
    FileFormat("video", "a Matroska video", rb"\x1a\x45\xdf\xa3"),
    FileFormat("video", "an MPEG video", rb"\0\0\x01[\xba\xb3]"),
    # Transport streams: packets that each begin with the same letter. Text has no NUL.
    FileFormat("video", "an MPEG video", rb"(?=.{,400}\0)(\x47.{187}){2}\x47"),
    FileFormat("video", "an MPEG video", rb"(?=.{,400}\0).{4}(\x47.{191}){2}\x47"),
    FileFormat("video", "a Flash video", rb"FLV\x01"),
    FileFormat("video", "a Windows Media video", rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    FileFormat("video", "an MP4 video", rb"\0...ftyp"),
    FileFormat(None, "gzip-compressed data", rb"\x1f\x8b"),
    FileFormat(None, "a zip archive", rb"PK\x03\x04"),
)
EITHER = re.compile(rb"OggS\0|\0...ftyp", re.DOTALL)  # sound alone, or a film


def kind_of(path: Path) -> Kind | None:
    """What the name says; None for any other file."""
    suffix = path.suffix.lower()
    return "image" if suffix == ".pdf" else KIND_OF_SUFFIX.get(suffix)


def kind_of_content(start: bytes, named: Kind | None) -> Kind | None:
    """What a file's first bytes say, whose name says `named`."""
    form = format_of(start)
    found = form.kind if form is not None else None
    if found == "audio" and named == "video" and not EITHER.match(start):
        return found  # which holds no film, whatever its name
    return named if found is None or {found, named} == {"audio", "video"} else found


def kind_of_file(path: Path) -> Kind | None:
    """What the content of a file says, else its name; its name if it is not there."""
    named = kind_of(path)
    try:
        # A pipe can be read only once, and not here.
        start = first_of(path) if path.is_file() else b""
    except (OSError, ValueError):
        return named
    return kind_of_content(start, named)


def first_of(path: Path) -> bytes:
    with path.open("rb") as opened:
        return opened.read(START)


def format_of(start: bytes) -> FileFormat | None:
    """The format of a file that begins with these bytes, if it is one of FORMATS."""
    for form in FORMATS:
        if re.match(form.start, start, re.DOTALL):
            return form
    return None
