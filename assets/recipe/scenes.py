"""Pictures of a few large shapes, their descriptions, and what covers each soft token.

A scene is up to three shapes in the cells of a 3x3 grid. Which (shape, colour, cell)
triples are held out is fixed by a hash: every shape is seen in every colour and every
cell, but not in every combination. The description names the shapes in reading order.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from mlx_gemma4.vision.images import image_patches, target_size

from .split import held_out

Place = tuple[float, float, float]  # centre x, centre y and radius in pixels
Colour = Sequence[float]

SHAPES = ("circle", "square", "triangle", "star", "heart")
COLOURS = {
    "red": (214, 32, 38),
    "orange": (248, 138, 20),
    "yellow": (250, 222, 36),
    "green": (34, 148, 56),
    "blue": (32, 66, 204),
    "purple": (128, 46, 158),
}
PLACES = (
    *("at the top left", "at the top", "at the top right"),
    *("on the left", "in the middle", "on the right"),
    *("at the bottom left", "at the bottom", "at the bottom right"),
)
HELD_OUT_PERCENT = 8
SIZES = ((384, 384), (384, 384), (400, 300), (480, 320), (300, 400), (512, 512))
WAVER = 14  # of a colour's channels
NOISE = 5  # of a pixel, at most
EDGE = 2  # pictures are drawn at twice the size and averaged
SAMPLE = Path(__file__).resolve().parent.parent / "shapes.png"
SIDE, POOLING = 16, 3  # of a patch in pixels, of a soft token in patches


@dataclass(frozen=True)
class Thing:
    """One shape: indices into SHAPES, COLOURS and PLACES."""

    shape: int
    colour: int
    cell: int

    @property
    def place(self) -> str:
        """Where it is, such as "at the top left"."""
        return PLACES[self.cell]

    @property
    def words(self) -> str:
        """The words for it, such as "a red circle at the top left"."""
        colour = list(COLOURS)[self.colour]
        article = "an" if colour == "orange" else "a"
        return f"{article} {colour} {SHAPES[self.shape]} {self.place}"


@dataclass(frozen=True)
class Drawn:
    """A picture, and where each thing is."""

    image: Image.Image
    things: tuple[Thing, ...]
    where: tuple[Place, ...]


def reserved(thing: Thing) -> bool:
    """Whether the triple is never trained."""
    key = f"scene/{SHAPES[thing.shape]}/{list(COLOURS)[thing.colour]}/{thing.cell}"
    return held_out(key, HELD_OUT_PERCENT)


RESERVED = tuple(
    thing
    for cell in range(len(PLACES))
    for shape in range(len(SHAPES))
    for colour in range(len(COLOURS))
    if reserved(thing := Thing(shape, colour, cell))
)


def things(rng: Random, count: int, held: bool = False) -> tuple[Thing, ...]:
    """`count` trained things in reading order; with `held`, one of them is reserved."""
    first = rng.choice(RESERVED) if held else None
    cells = rng.sample([c for c in range(9) if not first or c != first.cell], count)
    found = [first] if first else []
    for cell in cells[len(found) :]:
        thing = first
        while thing is None or reserved(thing):
            shape, colour = rng.randrange(len(SHAPES)), rng.randrange(len(COLOURS))
            thing = Thing(shape, colour, cell)
        found.append(thing)
    return tuple(sorted(found, key=lambda thing: thing.cell))


def describe(seen: tuple[Thing, ...]) -> str:
    """The sentence that describes a scene."""
    words = [thing.words for thing in seen]
    text = words[-1]
    if len(words) > 1:
        text = f"{', '.join(words[:-1])} and {text}"
    return f"{text[0].upper()}{text[1:]}."


def _turned(points: list[tuple[float, float]], angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array(points) @ np.array([[c, s], [-s, c]])


def _ring(corners: int, radii: tuple[float, ...], start: float = -math.pi / 2):
    angles = (start + 2 * math.pi * k / corners for k in range(corners))
    pairs = ((radii[k % len(radii)], angle) for k, angle in enumerate(angles))
    return [(r * math.cos(angle), r * math.sin(angle)) for r, angle in pairs]


def _heart() -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for k in range(40):
        t = 2 * math.pi * k / 40
        low = 5 * math.cos(2 * t) + 2 * math.cos(3 * t) + math.cos(4 * t)
        points.append((math.sin(t) ** 3, (low - 13 * math.cos(t)) / 16))
    return points


OUTLINES = {
    "square": _ring(4, (1.15,), math.pi / 4),
    "triangle": _ring(3, (1.15,)),
    "star": _ring(10, (1.2, 0.5)),
    "heart": _heart(),
}


def _background(rng: Random) -> tuple[np.ndarray, np.ndarray]:
    """Colour at the left and at the right end; white, or light and a little tinted."""
    if rng.random() < 0.4:
        return np.full(3, 255.0), np.full(3, 255.0)
    grey = rng.uniform(205, 250)
    left = np.array([grey + rng.uniform(-10, 10) for _ in range(3)])
    shade = rng.uniform(-18, 18) if rng.random() < 0.5 else 0.0
    return left, left + shade


def _paint(canvas: np.ndarray, thing: Thing, at: Place, angle: float, colour: Colour):
    """Blend one shape into `canvas`; its edge is smooth."""
    x, y, radius = at
    reach = math.ceil(1.25 * radius)
    left, top = int(x) - reach, int(y) - reach
    box = 2 * reach + 1
    mask = Image.new("L", (box * EDGE, box * EDGE))
    pen, name = ImageDraw.Draw(mask), SHAPES[thing.shape]
    centre = np.array([(x - left) * EDGE, (y - top) * EDGE])
    if name == "circle":
        pen.ellipse([*(centre - radius * EDGE), *(centre + radius * EDGE)], fill=255)
    else:
        points = _turned(OUTLINES[name], angle) * radius * EDGE + centre
        pen.polygon([tuple(point) for point in points.tolist()], fill=255)
    share = np.asarray(mask.reduce(EDGE), np.float32)[..., None] / 255
    height, width = canvas.shape[:2]
    rows = slice(max(0, top), min(height, top + box))
    columns = slice(max(0, left), min(width, left + box))
    inside = share[rows.start - top :, columns.start - left :]
    inside = inside[: rows.stop - rows.start, : columns.stop - columns.start]
    part = canvas[rows, columns]
    part += inside * (np.array(colour, np.float32) - part)


def draw(rng: Random, seen: tuple[Thing, ...], size: tuple[int, int]) -> Drawn:
    """Paint things on a plain, shaded or slightly noisy background of `size` (w, h)."""
    width, height = size
    left, right = _background(rng)
    across = np.linspace(0, 1, width)[:, None]
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = left + across * (right - left)
    where: list[Place] = []
    for thing in seen:
        x = width * (thing.cell % 3 + 0.5 + rng.uniform(-0.09, 0.09)) / 3
        y = height * (thing.cell // 3 + 0.5 + rng.uniform(-0.09, 0.09)) / 3
        where.append((x, y, min(size) * rng.uniform(0.105, 0.15)))
        base = list(COLOURS.values())[thing.colour]
        colour = [v + rng.uniform(-WAVER, WAVER) for v in base]
        _paint(canvas, thing, where[-1], rng.uniform(-0.12, 0.12), colour)
    if rng.random() < 0.4:
        noise = np.random.default_rng(rng.getrandbits(32)).random(canvas.shape, "f")
        canvas += rng.uniform(1, NOISE) * (2 * noise - 1)
    pixels = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return Drawn(Image.fromarray(pixels), seen, tuple(where))


def patches(image: Image.Image, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels float32 [P, 768] in 0..1 and positions int64 [P, 2] of a picture."""
    pixels, positions = image_patches(image, budget, SIDE, POOLING)
    return np.array(pixels), np.array(positions).astype(np.int64)


def labels(drawn: Drawn, budget: int) -> np.ndarray:
    """What covers each soft token: int64 [S, 3] of shape, colour, cell; 0: nothing."""
    width, height = drawn.image.size
    tall, wide = target_size(height, width, budget, SIDE, POOLING)
    rows, columns = tall // (SIDE * POOLING), wide // (SIDE * POOLING)
    found = np.zeros((rows, columns, 3), np.int64)
    y = (np.arange(rows)[:, None] + 0.5) * height / rows
    x = (np.arange(columns)[None] + 0.5) * width / columns
    least = 0.51 * max(height / rows, width / columns)
    for thing, (centre_x, centre_y, radius) in zip(
        drawn.things, drawn.where, strict=True
    ):
        away = np.maximum(abs(y - centre_y), abs(x - centre_x))
        found[away < max(radius, least)] = (
            thing.shape + 1,
            thing.colour + 1,
            thing.cell + 1,
        )
    return found.reshape(-1, 3)


def sample() -> Drawn:
    """The picture that comes with the repository; its triples are trained ones."""
    seen = (Thing(0, 0, 0), Thing(3, 4, 4), Thing(1, 3, 8))
    return draw(Random(4), seen, (480, 320))


if __name__ == "__main__":
    sample().image.save(SAMPLE, optimize=True)
