"""Pixels of any kind to 8-bit RGB over white."""

import numpy as np
from PIL import Image

from ..errors import MediaError

DEEP = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
BAND = 1 << 22  # pixels converted at a time


def rgb(image: Image.Image, name: str) -> Image.Image:
    """8-bit RGB over white. In bands: a large picture is not held several times."""
    if 0 in image.size:
        raise MediaError(
            f"{name} is {image.width} x {image.height} pixels: nothing to see."
        )
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    out = Image.new("RGB", image.size)
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        area = (0, top, image.width, min(top + rows, image.height))
        out.paste(_rgb_band(image.crop(area), name), area)
    return out


def _rgb_band(image: Image.Image, name: str) -> Image.Image:
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
