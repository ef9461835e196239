"""Files that go into a message as text: notes and code, and what a PDF says."""

import codecs
import os
from pathlib import Path
from typing import Literal

from mlx_gemma4.media import Kind
from mlx_gemma4.reading.bounded import read_bytes
from mlx_gemma4.reading.listing import listed

from ..errors import InputError, no_file
from ..media_formats import first_of, format_of, kind_of_file
from .messages import Part

Use = Literal["image", "audio", "video", "file"]  # as a medium, or as text

MOST = 10_000_000  # characters; the longest context has a million
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
PDF = "a PDF document"


def use_of(path: Path) -> Use | None:
    """How a message can take what lies at `path`; None for a folder, a pipe, what is
    not there, and what is neither a medium nor text. A PDF counts as text."""
    if not os.path.isfile(path):  # Path.is_file raises for names that are too long
        return None
    try:
        start = first_of(path)
    except OSError:
        return None
    form = format_of(start)
    if form is not None and form.name == PDF:
        return "file"
    kind: Kind | None = kind_of_file(path)
    if kind is not None or form is not None:
        return kind
    return "file" if b"\0" not in start or start.startswith(UTF16) else None


def unusable(path: Path) -> InputError:
    """The error for what `use_of` knows no use of."""
    if not os.path.exists(path):
        return no_file(path)
    if os.path.isdir(path):
        return InputError(f"{path} is a folder: name the files in it.")
    try:
        form = format_of(first_of(path)) if os.path.isfile(path) else None
    except OSError as error:
        return InputError(f"{path} cannot be read: {error.strerror}.")
    what = f" ({form.name})" if form is not None else ""
    return InputError(f"{path} is neither text nor a medium{what}.")


def is_pdf(path: Path) -> bool:
    form = format_of(first_of(path))
    return form is not None and form.name == PDF


def read_text_part(path: Path) -> Part:
    """A file as text of a message. Raises InputError for what is none, and MediaError
    for a PDF that cannot be read."""
    text, detail = _pdf(path) if is_pdf(path) else _plain(path)
    if not text.strip():
        raise InputError(f"{path.name} holds no text: nothing was attached.")
    if len(text) > MOST:
        raise InputError(
            f"{path.name} has more than {MOST:,} characters, more than any model reads."
        )
    label = f"{path.name} (text, {detail})"
    return {"type": "file", "path": str(path), "label": label, "text": text}


def _plain(path: Path) -> tuple[str, str]:
    try:
        data = read_bytes(path, 4 * MOST)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    encoding = "utf-16" if data.startswith(UTF16) else "utf-8-sig"
    try:
        text = data.decode(encoding).replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text (byte {error.start}). Convert it first, for "
            "example with iconv -t utf-8."
        ) from None
    if "\0" in text:
        raise InputError(f"{path} is neither text nor a medium.")
    lines = text.count("\n") + (not text.endswith("\n"))
    return text, "1 line" if lines == 1 else f"{lines:,} lines"


def _pdf(path: Path) -> tuple[str, str]:
    from mlx_gemma4.vision.pages import pdf_texts

    pages = pdf_texts(path)
    silent = [str(n) for n, text in enumerate(pages, start=1) if not text]
    many = len(pages) > 1
    text = "\n\n".join(
        f"[page {n}]\n{page}" if many else page
        for n, page in enumerate(pages, start=1)
        if page
    )
    detail = "1 page" if not many else f"{len(pages)} pages"
    if silent and len(silent) < len(pages):
        which = "page" if len(silent) == 1 else "pages"
        detail += f", without {which} {listed(silent)}: no text there"
    return text, f"{detail}; /image shows pages as pictures"
