"""Picture files to patches: any format, upright, RGB, at the size the tower reads.

Numbers first (`target_size`), then files (`open_image`), then pixels
(`image_patches`). Resizing is Pillow's, on 8-bit values.
"""

import contextlib
import importlib
import math
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path

import mlx.core as mx
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import MediaError, UnknownFormatError, install_command
from ..reading.sources import HEIF, open_source, source_name
from .colours import rgb
from .pixels import PixelConfig

# Left out are formats that start another program (EPS) or have no mark to know them by.
FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "PCX", "PNG"),
    *("PPM", "PSD", "QOI", "SGI", "TIFF", "WEBP"),
)
SIPS_SECONDS = 120
# Formats whose frames follow each other in time. Those of a TIFF are pages, those of a
# PSD layers, and those of a JPEG (MPO) the same view again.
MOVING = frozenset({"GIF", "PNG", "WEBP", "AVIF"})
MOST_PIXELS = 178_956_970  # where Pillow refuses as well
HEAVY = frozenset({"WEBP", "JPEG2000"})  # their decoders take twice the memory
LONGEST_SIDE = 200_000  # Pillow takes memory for each row, however short
SMALLER = "Make it smaller first: sips -Z 4096 PICTURE --out smaller.png"
PUBLISHED = PixelConfig()

PictureSource = str | Path | bytes | Image.Image


def target_size(
    height: int,
    width: int,
    max_soft_tokens: int,
    patch_size: int = 16,
    pooling: int = 3,
) -> tuple[int, int]:
    """Height and width in pixels to which a picture is resized.

    The largest multiples of `patch_size * pooling` that keep the shape, rounded down,
    within `max_soft_tokens`. A side too thin for one soft token gets one; the other
    side then is as many times as long as the shape says, at most the whole budget.
    Raises MediaError for a picture without pixels and a budget below one soft token.
    """
    side = patch_size * pooling
    rows, columns = _grid(height, width, max_soft_tokens, side)
    return rows * side, columns * side


def soft_tokens(
    height: int, width: int, budget: int, patch_size: int, pooling: int
) -> int:
    """How many a picture gets, upright or not. Raises MediaError as `target_size`."""
    rows, columns = _grid(height, width, budget, patch_size * pooling)
    return rows * columns


def _grid(height: int, width: int, budget: int, side: int) -> tuple[int, int]:
    """Rows and columns of soft tokens. Float steps in the reference's order."""
    if height < 1 or width < 1:
        raise MediaError(f"A picture of {width} x {height} pixels has nothing to see.")
    factor = math.sqrt(budget * side**2 / (height * width))
    rows = math.floor(factor * height / side)
    columns = math.floor(factor * width / side)
    if rows == columns == 0:
        raise MediaError(
            f"{budget} soft tokens are too few for {width} x {height} pixels."
        )
    if rows == 0:
        return 1, min(width // height, budget)
    if columns == 0:
        return min(height // width, budget), 1
    return rows, columns


def image_patches(
    image: Image.Image,
    max_soft_tokens: int,
    patch_size: int = 16,
    pooling: int = 3,
    config: PixelConfig = PUBLISHED,
) -> tuple[mx.array, mx.array]:
    """Pixels float32 `[P, patch_size² * 3]` and positions int32 `[P, 2]`.

    Pixels are in 0..1, unless `config` has other constants than every published
    checkpoint. Patches run row by row, positions are (x, y), and inside a patch the
    order is row, column, channel. No row is padding. `image` is what `open_image`
    returns.

    Equal to the reference's Pillow processor, bit for bit. Against torch's antialiased
    bicubic `interpolate`, measured in steps of 1/255 at three budgets: on 8-bit values
    at most 2, and 0 for 99 % of them; in floating point 0.3 on average, at most 1.1 on
    a smooth picture and 27 on pure noise (Pillow clips between its two passes).
    """
    image = image if image.mode == "RGB" else open_image(image)
    height, width = target_size(
        image.height, image.width, max_soft_tokens, patch_size, pooling
    )
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling(config.resample))
    rows, columns = height // patch_size, width // patch_size
    pixels = np.asarray(image).reshape(rows, patch_size, columns, patch_size, 3)
    pixels = pixels.swapaxes(1, 2).reshape(rows * columns, -1)
    red, *others = _values(config)
    values = red[pixels]
    for colour, table in enumerate(others, start=1):
        if not np.array_equal(table, red):
            values[:, colour::3] = table[pixels[:, colour::3]]
    positions = np.stack(np.divmod(np.arange(rows * columns), columns)[::-1], axis=-1)
    return mx.array(values), mx.array(positions.astype(np.int32))


@cache
def _values(config: PixelConfig) -> np.ndarray:
    """What each value of each colour becomes, float32 `[3, 256]`."""
    # As the reference rescales: in float64, rounded once.
    scaled = (np.arange(256) * config.rescale_factor).astype(np.float32)
    mean = np.array(config.image_mean, np.float32)[:, None]
    return (scaled - mean) / np.array(config.image_std, np.float32)[:, None]


def open_image(source: PictureSource) -> Image.Image:
    """A picture as 8-bit RGB, upright, from a path, a file's bytes or a Pillow image.

    EXIF orientation is applied. Transparency is laid over white, as the reference's
    processor does. 16-bit greys and floats in 0..1 are scaled to 8 bits, which the
    reference would clip to white or black. Of a picture that moves the first frame
    counts, and a warning says so; `pages.open_pages` gives all of a document. What
    Pillow cannot read, HEIC first of all, goes through pillow-heif where it is
    installed, else through macOS's `sips`.

    Takes less than 2 GB of memory. Raises MediaError that names the file and the
    remedy: no such file, empty, damaged, too large (MOST_PIXELS, LONGEST_SIDE), without
    pixels; and of it UnknownFormatError for what is no picture.
    """
    if not isinstance(source, str | Path | bytes | Image.Image):
        raise MediaError(
            f"A picture is a path, the bytes of a file or a Pillow image, not a "
            f"{type(source).__name__}."
        )
    name = source_name(source, "picture")
    if isinstance(source, Image.Image):
        with decoding(name):
            source.load()
            return rgb(ImageOps.exif_transpose(source), name)
    file, _ = open_source(source, "picture")
    with decoding(name):
        image, of = _first(file, name)
    if of > 1:
        warnings.warn(
            f"{name} moves: only the first of its {of} frames is seen here. Give it as "
            "a video to have more of them seen.",
            stacklevel=2,
        )
    return image


@contextlib.contextmanager
def decoding(name: str) -> Iterator[None]:
    """Around what Pillow does with a file: its errors become MediaError."""
    # Pillow warns of large pictures and odd metadata on stderr; neither matters here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (MediaError, MemoryError):
            raise
        except Image.DecompressionBombError as error:
            raise MediaError(f"{name} has too many pixels. {SMALLER}") from error
        # On damaged files Pillow's decoders raise whatever they come across.
        except Exception as error:
            raise MediaError(
                f"{name} is damaged or incomplete ({error}); get the file again, or "
                "open it in an image editor and save it anew."
            ) from error


def opened(file: Path | bytes, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """What Pillow knows of a file before its pixels are read."""
    readable = BytesIO(file) if isinstance(file, bytes) else file
    return Image.open(readable, formats=formats)


def loaded(image: Image.Image, name: str) -> Image.Image:
    """The frame that an opened file is at, upright and RGB, as `open_image` says."""
    check_size(image, name)
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return rgb(image, name)


def check_size(image: Image.Image, name: str) -> None:
    """Raises MediaError for an opened picture that would take too much memory."""
    width, height = image.size
    most = MOST_PIXELS // 2 if image.format in HEAVY else MOST_PIXELS
    if width * height > most or max(width, height) > LONGEST_SIDE:
        raise MediaError(f"{name} has {width} x {height} pixels, too many. {SMALLER}")


def frames_of(image: Image.Image) -> int:
    """How many frames a moving picture has; 1 for what does not move."""
    return getattr(image, "n_frames", 1) if image.format in MOVING else 1


def _first(file: Path | bytes, name: str) -> tuple[Image.Image, int]:
    """The first picture of a file, and how many frames it moves through."""
    try:
        with opened(file) as image:
            of = frames_of(image)
            return loaded(image, name), of
    except UnidentifiedImageError:
        return _loaded_elsewhere(file, name), 1


def _loaded_elsewhere(file: Path | bytes, name: str) -> Image.Image:
    if is_pdf(file):  # sips would give the first page and drop the others
        raise MediaError(f"{name} is a PDF document, not one picture.")
    if heif := is_heif(file):
        with contextlib.suppress(ImportError), opened_heif(file) as image:
            return loaded(image, name)
    if sys.platform == "darwin" and (sips := shutil.which("sips")):
        return _by_sips(sips, file, name)
    if heif:
        raise MediaError(
            f"{name} is a HEIC picture: {install_command('pillow-heif')}, or convert "
            "it on a Mac: sips -s format png PICTURE --out picture.png"
        )
    raise UnknownFormatError(
        f"{name} is in no picture format known here: save it as PNG."
    )


def is_heif(file: Path | bytes) -> bool:
    start = start_of(file, 12)
    return start[4:8] == b"ftyp" and start[8:] in HEIF


def opened_heif(file: Path | bytes) -> Image.Image:
    """As `opened`. Raises ImportError without pillow-heif."""
    importlib.import_module("pillow_heif").register_heif_opener()
    return opened(file, ("HEIF",))


def is_pdf(file: Path | bytes) -> bool:
    """Readers take a PDF whose mark stands anywhere in its first 1024 bytes."""
    return b"%PDF-" in start_of(file, 1024)


def start_of(file: Path | bytes, count: int) -> bytes:
    if isinstance(file, bytes):
        return file[:count]
    with file.open("rb") as opened_file:
        return opened_file.read(count)


def _by_sips(sips: str, file: Path | bytes, name: str) -> Image.Image:
    """Convert to TIFF, which keeps depth, transparency and orientation."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "picture.tiff"
        if isinstance(file, bytes):
            given = Path(folder) / "given"
            given.write_bytes(file)
        else:
            given = file.absolute()  # so that no name starts with a dash
        command = [sips, "-s", "format", "tiff", str(given), "--out", str(out)]
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=SIPS_SECONDS
        )
        # sips reports failure on stderr, not always by its exit status.
        if out.is_file() and out.stat().st_size:
            with opened(out, ("TIFF",)) as image:
                return loaded(image, name)
    said = done.stderr.decode(errors="replace").strip().splitlines()
    raise UnknownFormatError(
        f"{name} is no picture that Pillow or sips can read"
        f"{f' ({said[-1]})' if said else ''}: save it as JPEG or PNG."
    )
