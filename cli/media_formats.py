"""What kind of medium a file is: by its name, or by its first bytes."""

import re
from pathlib import Path
from typing import NamedTuple

from mlx_gemma4.media import Kind
from mlx_gemma4.reading.sources import HEIF

SUFFIXES: dict[Kind, str] = {
    "image": "jpg jpeg png webp gif bmp tif tiff heic heif avif",
    "audio": "wav flac ogg oga opus mp3 m4a aac aif aiff caf",
    "video": "mp4 mov m4v mkv webm avi mpg mpeg",
}
KIND_OF_SUFFIX: dict[str, Kind] = {
    f".{end}": kind for kind, ends in SUFFIXES.items() for end in ends.split()
}
START = 16  # bytes that tell what a file is


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
    FileFormat("audio", "a WAV recording", rb"(RIFF|RF64)....WAVE"),
    FileFormat("audio", "a FLAC recording", rb"fLaC"),
    FileFormat("audio", "an Ogg recording", rb"OggS\0"),
    FileFormat("audio", "an MP3 recording", rb"ID3[\2-\4]|\xff[\xfb\xf3\xf2]"),
    FileFormat("audio", "an AAC recording", rb"\xff[\xf1\xf9]|\0...ftypM4[AB]"),
    FileFormat("audio", "an AIFF recording", rb"FORM....AIF[FC]"),
    FileFormat("audio", "a CAF recording", rb"caff\0"),
    FileFormat("video", "an AVI video", rb"RIFF....AVI "),
    FileFormat("video", "a Matroska video", rb"\x1a\x45\xdf\xa3"),
    FileFormat("video", "an MPEG video", rb"\0\0\x01\xba"),
    FileFormat("video", "an MP4 video", rb"\0...ftyp"),
    FileFormat(None, "a PDF document", rb"%PDF-"),
    FileFormat(None, "gzip-compressed data", rb"\x1f\x8b"),
    FileFormat(None, "a zip archive", rb"PK\x03\x04"),
)


def kind_of(path: Path) -> Kind | None:
    """What the name says; None for any other file."""
    return KIND_OF_SUFFIX.get(path.suffix.lower())


def format_of(start: bytes) -> FileFormat | None:
    """The format of a file that begins with these bytes, if it is one of FORMATS."""
    for form in FORMATS:
        if re.match(form.start, start, re.DOTALL):
            return form
    return None
