"""What kind of medium a file is, by its name alone."""

from pathlib import Path

SUFFIXES = {
    "image": "jpg jpeg png webp gif bmp tif tiff heic heif avif",
    "audio": "wav flac ogg oga opus mp3 m4a aac aif aiff caf",
    "video": "mp4 mov m4v mkv webm avi mpg mpeg",
}
KINDS = {f".{end}": kind for kind, ends in SUFFIXES.items() for end in ends.split()}


def kind_of(path: Path) -> str | None:
    """image, audio or video; None for any other file."""
    return KINDS.get(path.suffix.lower())
