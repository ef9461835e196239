"""A picture in the terminal, in those that can show one."""

import os
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mlx_gemma4.errors import MediaError

from .wrap import window

if TYPE_CHECKING:
    from PIL.Image import Image

HEIGHT = 8  # rows of the window, at most
ROW, COLUMN = 40, 20  # pixels of a cell, on a fine screen
CHUNK = 4096  # what kitty takes at once
KONSOLE = 220400  # the first version that shows pictures


class Protocol(Enum):
    KITTY = "kitty"
    ITERM = "iTerm2"


def protocol(environ: Mapping[str, str]) -> Protocol | None:
    """How the terminal takes pictures. tmux and screen do not pass them on."""
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM")
    if "TMUX" in environ or "STY" in environ or term.startswith(("tmux", "screen")):
        return None
    if program in ("iTerm.app", "WezTerm") or environ.get("LC_TERMINAL") == "iTerm2":
        return Protocol.ITERM
    konsole = environ.get("KONSOLE_VERSION", "")
    if konsole.isdecimal() and int(konsole) >= KONSOLE:
        return Protocol.KITTY
    known = program == "ghostty" or term in ("xterm-kitty", "xterm-ghostty")
    return Protocol.KITTY if known or "KITTY_WINDOW_ID" in environ else None


def preview(path: Path, stream: TextIO) -> bool:
    """Shows the picture `path`, of several pages the first; False where none can be."""
    how = protocol(os.environ)
    if how is None:
        return False
    from mlx_gemma4.vision.pages import open_pages

    with suppress(MediaError, OSError):  # it was read before, and may be gone
        pages = open_pages(path)
        picture = next(pages)
        pages.close()
        rows = height(picture.size, window(stream).columns)
        stream.write(sequence(how, small_png(picture, rows), rows) + "\n")
        stream.flush()
    return True


def height(size: tuple[int, int], columns: int) -> int:
    """The rows that a picture of `size` takes, neither enlarged nor cut off."""
    wide, high = size
    fitting = columns * COLUMN * high // (wide * ROW)
    return max(1, min(HEIGHT, fitting, -(-high // ROW)))


def small_png(picture: "Image", rows: int) -> bytes:
    small, most = picture.convert("RGB"), rows * ROW
    small.thumbnail((max(1, small.width * most // small.height), most))
    taken = BytesIO()
    small.save(taken, "PNG")
    return taken.getvalue()


def sequence(how: Protocol, png: bytes, rows: int) -> str:
    """What shows a picture. kitty is told not to answer: it would be read as typed."""
    data = b64encode(png).decode("ascii")
    if how is Protocol.ITERM:
        options = f"inline=1;size={len(png)};height={rows};preserveAspectRatio=1"
        return f"\x1b]1337;File={options}:{data}\x07"
    parts = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    keys = [f"a=T,f=100,q=2,r={rows},m=1", *["m=1"] * (len(parts) - 1)]
    keys[-1] = keys[-1].replace("m=1", "m=0")
    pairs = zip(keys, parts, strict=True)
    return "".join(f"\x1b_G{key};{part}\x1b\\" for key, part in pairs)
