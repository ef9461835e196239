"""What a folder of examples holds: sets by name, media with metadata, or text."""

from enum import Enum
from pathlib import Path

from ..errors import DataError
from ..media import KIND_OF_SUFFIX

TEXT_SUFFIXES = (".txt", ".md")
TABLES = (".jsonl", ".json", ".csv")
# Beside text files they are what was meant, and would be passed over.
UNREAD = (".jsonl", ".csv", ".tsv", ".parquet", ".arrow")
METADATA = "metadata"  # of Hugging Face's imagefolder and audiofolder


class Part(Enum):
    """A set of examples, and the names it goes by."""

    TRAIN = ("train",)
    VALIDATION = ("valid", "validation", "val")
    TEST = ("test",)


def split_of(folder: Path, part: Part) -> Path | None:
    """The file of a set in `folder`, or None. Raises DataError where there are two."""
    stems = [folder / name for name in part.value]
    stems += [folder / name / METADATA for name in part.value]
    if part is Part.TRAIN:
        stems.append(folder / METADATA)
    found = [
        file
        for stem in stems
        for end in TABLES
        if (file := Path(f"{stem}{end}")).is_file()
    ]
    if len(found) > 1:
        names = " and ".join(str(file.relative_to(folder)) for file in found)
        raise DataError(f"{folder} holds {names}: name the file to read.")
    return found[0] if found else None


def check_text_folder(folder: Path) -> list[Path]:
    """The text files in `folder` and below it, in order.

    Raises DataError where there are none, or files that text alone would leave out:
    tables of examples, and media that a text of the same name describes.
    """
    try:
        inside = sorted(folder.rglob("*"))
    except OSError as error:  # what is there changes meanwhile
        raise DataError(f"{folder} cannot be read: {error.strerror}.") from None
    seen = [
        file
        for file in inside
        if not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    texts = [file for file in seen if file.suffix.lower() in TEXT_SUFFIXES]
    media = {f.with_suffix("") for f in seen if f.suffix.lower() in KIND_OF_SUFFIX}
    if not texts:
        more = ", and media need metadata.jsonl beside them" if media else ""
        raise DataError(
            f"{folder} holds neither train.jsonl nor any .txt or .md file{more}."
        )
    tables = [file for file in seen if file.suffix.lower() in UNREAD]
    tables += [file for file in folder.glob("*.json") if file in seen]
    if tables:
        raise DataError(
            f"{folder} holds text and {tables[0].relative_to(folder)}, which is not "
            "read: name the file to learn, or name it train.jsonl."
        )
    if both := [text for text in texts if text.with_suffix("") in media]:
        raise DataError(
            f"{both[0]} lies beside a medium of the same name, and would be learned "
            "without it: write train.jsonl with images, prompt and completion."
        )
    return texts
