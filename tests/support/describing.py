"""Runs `gemma4 describe` in this process, on pictures made for it."""

from typing import Any

import numpy as np
from PIL import Image
from scripted import Script
from typer.testing import CliRunner, Result

from mlx_gemma4.cli.app import app

CAT = '[{"box_2d": [250, 500, 750, 1000], "label": "cat"}]'


def picture(name: str, seed: int = 0, size: tuple[int, int] = (64, 48)) -> str:
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(name)
    return name


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["describe", *arguments, "-m", "m"], input=stdin)


def content(script: Script) -> list[dict[str, Any]]:
    """The parts of the last question."""
    (message,) = script.asked[-1].messages
    return message["content"]
