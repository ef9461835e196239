"""Picture files to patches: any format, upright, RGB, at the size the tower reads.

Numbers first (`target_size`), then files (`open_image`), then pixels
(`image_patches`). Resizing is Pillow's, on 8-bit values.
"""

import importlib.util
import math
import shutil
import subprocess
import sys
import tempfile
import warnings
from functools import cache
from io import BytesIO
from pathlib import Path

import mlx.core as mx
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import MediaError, UnknownFormatError
from ..reading.sources import HEIF, open_source, source_name
from .pixels import PixelConfig

# Left out are formats that start another program (EPS) or have no mark to know them by.
FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "PCX", "PNG"),
    *("PPM", "PSD", "QOI", "SGI", "TIFF", "WEBP"),
)
DEEP = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
SIPS_SECONDS = 120
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
    reference would clip to white or black. Of an animation the first frame counts.
    What Pillow cannot read, HEIC first of all, goes through pillow-heif where it is
    installed, else through macOS's `sips`.

    Raises MediaError that names the file and the remedy: no such file, empty, damaged,
    too large (Pillow's limit, 179 million pixels), without pixels; and of it
    UnknownFormatError for what is no picture.
    """
    if not isinstance(source, str | Path | bytes | Image.Image):
        raise MediaError(
            f"A picture is a path, the bytes of a file or a Pillow image, not a "
            f"{type(source).__name__}."
        )
    name = source_name(source, "picture")
    # Pillow warns of large pictures and odd metadata on stderr; neither matters here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = _upright(source, name)
            if 0 not in image.size:
                return _rgb(image, name)
        except (MediaError, MemoryError):
            raise
        except Image.DecompressionBombError as error:
            raise MediaError(
                f"{name} has too many pixels to be opened safely; make it smaller "
                f"first: sips -Z 4096 PICTURE --out smaller.png ({error})"
            ) from error
        # On damaged files Pillow's decoders raise whatever they come across.
        except Exception as error:
            raise MediaError(
                f"{name} is damaged or incomplete ({error}); get the file again, or "
                "open it in an image editor and save it anew."
            ) from error
    raise MediaError(
        f"{name} is {image.width} x {image.height} pixels: nothing to see."
    )


def _upright(source: PictureSource, name: str) -> Image.Image:
    if isinstance(source, Image.Image):
        source.load()
        return ImageOps.exif_transpose(source)
    file, _ = open_source(source, "picture")
    try:
        return _loaded(file, FORMATS)
    except UnidentifiedImageError:
        return _loaded_elsewhere(file, name)


def _loaded(file: Path | bytes, formats: tuple[str, ...]) -> Image.Image:
    readable = BytesIO(file) if isinstance(file, bytes) else file
    with Image.open(readable, formats=formats) as image:
        image.load()
        return ImageOps.exif_transpose(image)


def _loaded_elsewhere(file: Path | bytes, name: str) -> Image.Image:
    heif = _is_heif(file)
    if heif and importlib.util.find_spec("pillow_heif"):
        importlib.import_module("pillow_heif").register_heif_opener()
        return _loaded(file, ("HEIF",))
    if sys.platform == "darwin" and (sips := shutil.which("sips")):
        return _by_sips(sips, file, name)
    if heif:
        raise MediaError(
            f"{name} is a HEIC picture: pip install pillow-heif, or convert it on a "
            "Mac: sips -s format png PICTURE --out picture.png"
        )
    raise UnknownFormatError(
        f"{name} is in no picture format known here: save it as PNG."
    )


def _is_heif(file: Path | bytes) -> bool:
    if isinstance(file, bytes):
        start = file[:12]
    else:
        with file.open("rb") as opened:
            start = opened.read(12)
    return start[4:8] == b"ftyp" and start[8:12] in HEIF


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
            return _loaded(out, ("TIFF",))
    said = done.stderr.decode(errors="replace").strip().splitlines()
    raise UnknownFormatError(
        f"{name} is no picture that Pillow or sips can read"
        f"{f' ({said[-1]})' if said else ''}: save it as JPEG or PNG."
    )


def _rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode in DEEP:
        image = _eight_bit(image, name)
    elif image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image.convert("RGB")
    over = image.convert("RGBA")
    white = Image.new("RGBA", over.size, "white")
    return Image.alpha_composite(white, over).convert("RGB")


def _eight_bit(image: Image.Image, name: str) -> Image.Image:
    """16-bit greys, and floats in 0..1, rounded to 8 bits."""
    values = np.asarray(image)
    limit = 1.0 if image.mode == "F" else 65535.0
    if not (values.min() >= 0 and values.max() <= limit):
        raise MediaError(
            f"{name} has values beyond 0 to {limit:g}: save it with 8 or 16 bits."
        )
    grey = Image.fromarray(np.rint(values * (255 / limit)).astype(np.uint8))
    hole = image.info.get("transparency")
    if hole is not None:
        opaque = np.where(values == hole, 0, 255).astype(np.uint8)
        grey.putalpha(Image.fromarray(opaque))
    return grey
