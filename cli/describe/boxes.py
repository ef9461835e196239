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

from .loose import read_loosely

GRID = 1000  # what box_2d counts to, on both axes
REQUEST = "Find the objects in this image."
FORMAT = (
    "Answer only with JSON: a list with one entry per object, each with "
    '"box_2d", its bounding box as [y1, x1, y2, x2] normalised to 0-1000, '
    'and "label", a short name.'
)
UNNAMED = "object"
# Asked for as box_2d; the other names stand in what many models have learned from.
KEYS = ("box_2d", "bbox_2d", "box2d", "bbox", "bounding_box", "box")
LABELS = ("label", "name", "class", "object", "caption")
SIDES = (
    *(("y1", "x1", "y2", "x2"), ("ymin", "xmin", "ymax", "xmax")),
    *(("y_min", "x_min", "y_max", "x_max"), ("top", "left", "bottom", "right")),
)
KEY = re.compile(rf"(?<!\w)({'|'.join(KEYS)})(?!\w)")
# A box in an answer; the word alone stands in sentences, too.
WRITTEN = re.compile(
    rf"""(["'])({"|".join(KEYS)})\1\s*[:=](?!\s*\{{)|(?<!["'\w])b?box_?2d\s*[:=]"""
)
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)")
BETWEEN = re.compile(r"[\s,;\[\]()]*")


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
    another object, be written as `loose` reads it, and end early: what is complete
    counts. Ends in the wrong order are swapped; ends beyond the grid are brought to its
    edge. What a model repeats, it found once.
    """
    found = [as_box(entry) for value in json_values(answer) for entry in entries(value)]
    boxes = [box for box in found if box is not None]
    # Counted in the text, since what is no JSON or was cut off has no entry.
    written = max(len(found), len(WRITTEN.findall(answer)))
    return list(dict.fromkeys(boxes)), written - len(boxes)


def json_values(text: str) -> Iterator[Any]:
    """Every whole JSON object in a text, the outermost that can be read."""
    decoder, end = json.JSONDecoder(strict=False), 0
    for match in re.finditer(r"\{", text):
        if match.start() < end or KEY.search(text, match.start()) is None:
            continue
        try:
            value, end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            try:
                value, end = read_loosely(text, match.start())
            except ValueError:
                continue
        yield value


def entries(value: Any) -> Iterator[dict[str, Any]]:
    """The objects with a box in a JSON value, at any depth, in order."""
    open_values = [value]
    while open_values:
        current = open_values.pop()
        if isinstance(current, dict) and stated_box(current) is not None:
            yield current
        elif isinstance(current, dict):
            open_values += reversed(current.values())
        elif isinstance(current, list):
            open_values += reversed(current)


def stated_box(entry: dict[str, Any]) -> Any:
    """What an object says its box is; None if it has none, or one with objects in it,
    which then are looked at themselves."""
    value = next((entry[key] for key in KEYS if key in entry), None)
    if isinstance(value, dict):
        return value if any(set(names) <= set(value) for names in SIDES) else None
    inside = isinstance(value, list) and any(isinstance(v, dict) for v in value)
    return None if inside else value


def as_box(entry: dict[str, Any]) -> Box | None:
    """None if the four numbers are not four numbers, or nothing lies between them."""
    numbers = list(numbers_in(stated_box(entry)))
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        return None
    top, left, bottom, right = (min(max(n, 0), GRID) / GRID for n in numbers)
    if top == bottom or left == right:
        return None
    (top, bottom), (left, right) = sorted((top, bottom)), sorted((left, right))
    named = next((entry[key] for key in LABELS if entry.get(key) is not None), "")
    label = " ".join(str(named).split())
    return Box(label or UNNAMED, left, top, right, bottom)


def numbers_in(value: Any) -> Iterator[float]:
    """The numbers of a box: in a list, in pairs, as texts, or by the names of sides.

    What is no number is NaN.
    """
    if isinstance(value, dict):
        for names in SIDES:
            if all(name in value for name in names):
                value = [value[name] for name in names]
                break
    if isinstance(value, list):
        for part in value:
            yield from numbers_in(part)
    elif isinstance(value, str) and not NUMBER.sub("", BETWEEN.sub("", value)):
        yield from (as_number(word) for word in NUMBER.findall(value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield as_number(value)
    else:
        yield math.nan


def as_number(value: int | float | str) -> float:
    try:
        return float(value)
    except OverflowError:  # an int beyond every float is beyond the grid
        return GRID if int(value) > 0 else 0
