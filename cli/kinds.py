"""What kind of medium a file is: by its name, or by its first bytes."""

import re
from pathlib import Path
from typing import Literal, NamedTuple

from mlx_gemma4.reading.sources import HEIF

Kind = Literal["image", "audio", "video"]
SUFFIXES: dict[Kind, str] = {
    "image": "jpg jpeg png webp gif bmp tif tiff heic heif avif",
    "audio": "wav flac ogg oga opus mp3 m4a aac aif aiff caf",
    "video": "mp4 mov m4v mkv webm avi mpg mpeg",
}
KINDS: dict[str, Kind] = {
    f".{end}": kind for kind, ends in SUFFIXES.items() for end in ends.split()
}
START = 16  # bytes that tell what a file is


class Mark(NamedTuple):
    """A format: its kind, if it is a medium, its name, and a pattern of its start."""

    kind: Kind | None
    name: str
    start: bytes


# The first that fits counts: an MP4 video is what begins like one and is nothing else.
MARKS = (
    Mark("image", "a PNG picture", rb"\x89PNG"),
    Mark("image", "a JPEG picture", rb"\xff\xd8\xff"),
    Mark("image", "a GIF picture", rb"GIF8[79]a"),
    Mark("image", "a WebP picture", rb"RIFF....WEBP"),
    Mark("image", "a TIFF picture", rb"II\*\0|MM\0\*"),
    Mark("image", "a HEIC picture", rb"\0...ftyp(" + b"|".join(sorted(HEIF)) + b")"),
    Mark("image", "an AVIF picture", rb"\0...ftypavi[fs]"),
    Mark("audio", "a WAV recording", rb"(RIFF|RF64)....WAVE"),
    Mark("audio", "a FLAC recording", rb"fLaC"),
    Mark("audio", "an Ogg recording", rb"OggS\0"),
    Mark("audio", "an MP3 recording", rb"ID3[\2-\4]|\xff[\xfb\xf3\xf2]"),
    Mark("audio", "an AAC recording", rb"\xff[\xf1\xf9]|\0...ftypM4[AB]"),
    Mark("audio", "an AIFF recording", rb"FORM....AIF[FC]"),
    Mark("audio", "a CAF recording", rb"caff\0"),
    Mark("video", "an AVI video", rb"RIFF....AVI "),
    Mark("video", "a Matroska video", rb"\x1a\x45\xdf\xa3"),
    Mark("video", "an MPEG video", rb"\0\0\x01\xba"),
    Mark("video", "an MP4 video", rb"\0...ftyp"),
    Mark(None, "a PDF document", rb"%PDF-"),
    Mark(None, "gzip-compressed data", rb"\x1f\x8b"),
    Mark(None, "a zip archive", rb"PK\x03\x04"),
)


def kind_of(path: Path) -> Kind | None:
    """What the name says; None for any other file."""
    return KINDS.get(path.suffix.lower())


def mark_of(start: bytes) -> Mark | None:
    """The format of a file that begins with these bytes, if it is one of MARKS."""
    for mark in MARKS:
        if re.match(mark.start, start, re.DOTALL):
            return mark
    return None
