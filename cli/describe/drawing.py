"""Boxes with labels, drawn onto a picture so that they can be read on anything.

Every line has a dark and a light edge, so it stands out from any ground; every label
stands on a plate of its box's colour, where it hides the least.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mlx_gemma4.state import save_bytes

from ..errors import InputError, UsageError, unwritable
from ..render import printable
from .boxes import Box

Area = tuple[float, float, float, float]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
# Told apart also with the common kinds of colour blindness (Okabe and Ito), and with
# a light and a dark one more. One colour per label, again from the start after these.
COLOURS = (
    *("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"),
    *("#B9E769", "#7B2CBF"),
)
# Fonts with many scripts, for labels that Pillow's own font cannot write.
WIDE_FONTS = (
    *("Arial Unicode.ttf", "PingFang.ttc", "NotoSansCJK-Regular.ttc"),
    *("DejaVuSans.ttf", "arial.ttf"),
)
EVEN = 0.179  # the luminance on which black and white stand out equally
LATIN = 0x17F  # the last letter that Pillow's own font surely has


@dataclass(frozen=True)
class Sizes:
    """Measures in pixels that suit a picture."""

    line: int
    text: int

    @classmethod
    def of(cls, width: int, height: int) -> "Sizes":
        reference = (width * height) ** 0.5
        return cls(max(2, round(reference / 260)), max(11, round(reference / 38)))


def check_target(path: Path) -> None:
    """Raises UsageError or InputError for a file that no picture can be written to."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: --boxes writes {', '.join(FORMATS)}.")
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file in it.")
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {path.parent}: make it first.")
    if not os.access(path.parent, os.W_OK):  # before the model works for nothing
        raise InputError(f"Cannot write {path}: Permission denied.")


def write_picture(image: Image.Image, path: Path) -> None:
    """Raises InputError and DiskFullError that name the file."""
    data = BytesIO()
    kind = FORMATS[path.suffix.lower()]
    try:
        image.save(data, kind, quality=92)
        save_bytes(path, data.getvalue())
    except (OSError, ValueError) as error:  # a format's limits, too
        raise unwritable(path, error) from None


def draw_boxes(image: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    """A copy of an RGB picture with every box and its label.

    Large boxes first: what lies inside others stays visible. Labels last, above all.
    """
    image = image.copy()
    draw = ImageDraw.Draw(image)
    sizes = Sizes.of(*image.size)
    colours = label_colours(boxes)
    placed = [(box, box.pixels(*image.size)) for box in boxes]
    placed.sort(key=lambda pair: -_extent(pair[1]))
    for box, (left, top, right, bottom) in placed:
        outline(draw, (left, top, right - 1, bottom - 1), colours[box.label], sizes)
    taken: list[Area] = []
    for box, area in placed:
        taken.append(plate(draw, image.size, box.label, area, colours, sizes, taken))
    return image


def label_colours(boxes: Sequence[Box]) -> dict[str, str]:
    labels = dict.fromkeys(box.label for box in boxes)
    return {label: COLOURS[n % len(COLOURS)] for n, label in enumerate(labels)}


def _extent(area: tuple[int, int, int, int]) -> int:
    left, top, right, bottom = area
    return (right - left) * (bottom - top)


def outline(draw: ImageDraw.ImageDraw, area: Area, colour: str, sizes: Sizes) -> None:
    """The line in colour, black outside and white inside of it, within `area`."""
    edge = max(1, sizes.line // 3)
    for inset, width, ink in (
        (0, sizes.line + 2 * edge, "black"),
        (edge, sizes.line + edge, "white"),
        (edge, sizes.line, colour),
    ):
        left, top, right, bottom = area
        inner = (left + inset, top + inset, right - inset, bottom - inset)
        room = min(inner[2] - inner[0], inner[3] - inner[1]) + 1
        if room >= 1:  # Pillow draws a line wider than half the box beyond it
            fill = ink if room <= 2 * width else None
            draw.rectangle(inner, fill, ink, min(width, int(room + 1) // 2))


def plate(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    label: str,
    area: Area,
    colours: dict[str, str],
    sizes: Sizes,
    taken: Sequence[Area],
) -> Area:
    """Draws a label near its box; returns the area that it takes."""
    colour, pad = colours[label], max(2, sizes.text // 4)
    font = font_for(label, sizes.text)
    text = shortened(draw, printable(label), font, size[0] - 2 * pad)
    _, above, right, below = draw.textbbox((0, 0), text, font=font)
    tall = sizes.text + pad  # the same for all labels, whatever their letters
    place = free_place(size, area, (right + 2 * pad, tall), taken)
    draw.rounded_rectangle(
        (place[0], place[1], place[2] - 1, place[3] - 1),
        radius=pad,
        fill=colour,
        outline="black",
        width=max(1, sizes.line // 3),
    )
    ink = "black" if luminance(colour) > EVEN else "white"
    middle = (place[1] + place[3]) / 2
    anchor = "lm" if isinstance(font, ImageFont.FreeTypeFont) else None
    at = (place[0] + pad, middle if anchor else middle - (above + below) / 2)
    draw.text(at, text, fill=ink, font=font, anchor=anchor)
    return place


def free_place(
    size: tuple[int, int], area: Area, plate: tuple[float, float], taken: Sequence[Area]
) -> Area:
    """Above the box, else in it at the top, below it, or in it at the bottom: the
    first place that lies within the picture and on no other label; else the first
    within the picture."""
    (wide, tall), (left, top, right, bottom) = plate, area
    tops = (top - tall, top, bottom, bottom - tall)
    lefts = (left, right - wide)
    places = []
    for y in tops:
        for x in lefts:
            x = max(0, min(x, size[0] - wide))
            if 0 <= y <= size[1] - tall:
                places.append((x, y, x + wide, y + tall))
    for place in places:
        if not any(overlap(place, other) for other in taken):
            return place
    y = max(0, min(top, size[1] - tall))
    x = max(0, min(left, size[0] - wide))
    return places[0] if places else (x, y, x + wide, y + tall)


def overlap(one: Area, other: Area) -> bool:
    return (
        one[0] < other[2]
        and other[0] < one[2]
        and one[1] < other[3]
        and other[1] < one[3]
    )


def font_for(label: str, size: int) -> Font:
    """Pillow's own font, or one of the system's for scripts that it lacks."""
    if any(ord(character) > LATIN for character in label):
        for name in WIDE_FONTS:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)


def shortened(draw: ImageDraw.ImageDraw, text: str, font: Font, room: float) -> str:
    """`text`, its end left out if it is wider than the picture."""
    if draw.textlength(text, font=font) <= room:
        return text
    while len(text) > 1 and draw.textlength(text + "...", font=font) > room:
        text = text[:-1]
    return text + "..."


def luminance(colour: str) -> float:
    """WCAG's relative luminance of `#rrggbb`, 0 to 1."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
