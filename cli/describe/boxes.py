"""Boxes round objects, as Gemma writes them, and as pixels.

Gemma writes JSON: a list of objects with `label` and `box_2d`, which is
`[y1, x1, y2, x2]`, each from 0 to 1000 of the picture's height or width.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

GRID = 1000  # what box_2d counts to, on both axes
REQUEST = "Find the objects in this image."
FORMAT = (
    "Answer only with JSON: a list with one entry per object, each with "
    '"box_2d", its bounding box as [y1, x1, y2, x2] normalised to 0-1000, '
    'and "label", a short name.'
)
UNNAMED = "object"
KEY = re.compile(r"""["']box_2d["']\s*:""")
SPARE_COMMA = re.compile(r",(\s*[\]}])")


@dataclass(frozen=True)
class Box:
    """An object: its name and, in 0..1 of width and height, where it is."""

    label: str
    left: float
    top: float
    right: float
    bottom: float

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in a picture of this size, the ends excluded.

        At least one pixel each way, and never outside.
        """
        left, right = _span(self.left, self.right, width)
        top, bottom = _span(self.top, self.bottom, height)
        return left, top, right, bottom


def _span(start: float, end: float, size: int) -> tuple[int, int]:
    first = min(round(start * size), size - 1)
    return first, max(round(end * size), first + 1)


def boxes_prompt(request: str | None) -> str:
    return f"{request or REQUEST} {FORMAT}"


def find_boxes(answer: str) -> tuple[list[Box], int]:
    """The boxes in an answer, and how many were there that cannot be used.

    The JSON may stand in a code fence or between sentences, bare, in a list, or inside
    another object, with commas too many, and may end early: what is complete counts.
    Ends in the wrong order are swapped; ends beyond the grid are brought to its edge.
    """
    found = [as_box(entry) for value in json_values(answer) for entry in entries(value)]
    boxes = [box for box in found if box is not None]
    # Counted in the text, since what is no JSON or was cut off has no entry.
    written = max(len(found), len(KEY.findall(answer)))
    return boxes, written - len(boxes)


def json_values(text: str) -> Iterator[Any]:
    """Every whole JSON object in a text, the outermost that can be read."""
    decoder, end = json.JSONDecoder(), 0
    if any(KEY.finditer(text)):
        text = SPARE_COMMA.sub(r"\1", text)
    for match in re.finditer(r"\{", text):
        if match.start() < end:
            continue
        try:
            value, end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        yield value


def entries(value: Any) -> Iterator[dict[str, Any]]:
    """The objects with a box in a JSON value, at any depth, in order."""
    open_values = [value]
    while open_values:
        current = open_values.pop()
        if isinstance(current, dict) and "box_2d" in current:
            yield current
        elif isinstance(current, dict):
            open_values += reversed(current.values())
        elif isinstance(current, list):
            open_values += reversed(current)


def as_box(entry: dict[str, Any]) -> Box | None:
    """None if the four numbers are not four numbers, or nothing lies between them."""
    numbers = entry["box_2d"]
    if not isinstance(numbers, list) or len(numbers) != 4:
        return None
    # An int may be too large for a float; infinity and NaN are none of Gemma's.
    if not all(
        type(n) is int or type(n) is float and math.isfinite(n) for n in numbers
    ):
        return None
    top, left, bottom, right = (min(max(n, 0), GRID) / GRID for n in numbers)
    if top == bottom or left == right:
        return None
    (top, bottom), (left, right) = sorted((top, bottom)), sorted((left, right))
    label = " ".join(str(entry.get("label") or UNNAMED).split())
    return Box(label or UNNAMED, left, top, right, bottom)
