"""A loss curve as a PNG, drawn with Pillow: training as a line, validation as dots."""

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

SIZE, MARGIN = (960, 540), (70, 30, 30, 50)  # left, top, right, bottom
INK, GRID, TRAIN, VALIDATION = "#222222", "#dddddd", "#9bbce0", "#c0392b"
SMOOTH = "#1f5fa8"
Points = Sequence[tuple[float, float]]


def draw_curve(file: Path, train: Points, validation: Points) -> None:
    """Draw (step, loss) points; losses that are no numbers are left out."""
    points = [p for p in (*train, *validation) if math.isfinite(p[1])]
    image = Image.new("RGB", SIZE, "white")
    canvas = ImageDraw.Draw(image)
    if points:
        frame = _Frame(points)
        frame.axes(canvas)
        finite = [p for p in train if math.isfinite(p[1])]
        frame.line(canvas, finite, TRAIN, 1)
        frame.line(canvas, smoothed(finite), SMOOTH, 3)
        frame.line(canvas, validation, VALIDATION, 2)
        for x, y in map(frame.at, validation):
            canvas.ellipse((x - 4, y - 4, x + 4, y + 4), fill=VALIDATION)
        _legend(canvas, bool(validation))
    image.save(file, "PNG")


def smoothed(points: Points, keep: float = 0.9) -> list[tuple[float, float]]:
    """A running mean that starts unbiased."""
    mean, weight, result = 0.0, 0.0, []
    for x, y in points:
        mean, weight = keep * mean + (1 - keep) * y, keep * weight + 1 - keep
        result.append((x, mean / weight))
    return result


class _Frame:
    """Where values lie in the picture."""

    def __init__(self, points: Points):
        self.last = max(1.0, max(x for x, _ in points))
        top = max(y for _, y in points)
        self.step = nice_step(top / 5 or 1.0)
        self.top = self.step * max(1, math.ceil(top / self.step))

    def at(self, point: tuple[float, float]) -> tuple[float, float]:
        left, up, right, down = MARGIN
        width, height = SIZE[0] - left - right, SIZE[1] - up - down
        x, y = point
        return left + width * x / self.last, up + height * (1 - y / self.top)

    def line(
        self, canvas: ImageDraw.ImageDraw, points: Points, colour: str, width: int
    ) -> None:
        if len(points) > 1:
            canvas.line([self.at(p) for p in points], fill=colour, width=width)

    def axes(self, canvas: ImageDraw.ImageDraw) -> None:
        for number in range(round(self.top / self.step) + 1):
            y = number * self.step
            canvas.line([self.at((0, y)), self.at((self.last, y))], fill=GRID)
            x, height = self.at((0, y))
            canvas.text((x - 8, height), f"{y:.4g}", INK, anchor="rm", font_size=14)
        step = max(1, nice_step(self.last / 6))
        for number in range(int(self.last // step) + 1):
            x, y = self.at((number * step, 0))
            canvas.text(
                (x, y + 8), f"{number * step:g}", INK, anchor="mt", font_size=14
            )
        x, y = self.at((self.last / 2, 0))
        canvas.text((x, y + 28), "step", INK, anchor="mt", font_size=14)


def nice_step(rough: float) -> float:
    """The 1, 2 or 5 times a power of ten that is next above `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= rough * (1 - 1e-9))


def _legend(canvas: ImageDraw.ImageDraw, validation: bool) -> None:
    x, y = SIZE[0] - 220, MARGIN[1] + 10
    canvas.line((x, y, x + 30, y), fill=SMOOTH, width=3)
    canvas.text((x + 40, y), "training loss", INK, anchor="lm", font_size=14)
    if validation:
        canvas.line((x, y + 22, x + 30, y + 22), fill=VALIDATION, width=2)
        canvas.text((x + 40, y + 22), "validation loss", INK, anchor="lm", font_size=14)
