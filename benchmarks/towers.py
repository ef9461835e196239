"""In the process of one program: its towers read pictures and recordings.

Both end at the text decoder's width. What was computed is saved in a file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
from child import Spent, Stopwatch, serve

PATCH, POOLING, BINS = 16, 3, 128  # of all published towers


@dataclass(frozen=True)
class Towers:
    """A program with the checkpoint loaded.

    read_picture(pixels [P, patch² * 3], positions [P, 2]) and
    read_sound(frames [T, bins]): the soft tokens as embeddings of the text decoder.
    """

    read_picture: Callable[[mx.array, mx.array], mx.array]
    read_sound: Callable[[mx.array], mx.array]

    def see(self, rows: int, columns: int, file: str) -> Spent:
        """A picture of so many soft tokens."""
        height, width = rows * POOLING, columns * POOLING
        pixels = np.random.default_rng(0).random((height * width, 3 * PATCH**2))
        y, x = np.divmod(np.arange(height * width), width)
        inputs = mx.array(pixels.astype(np.float32)), mx.array(np.stack([x, y], -1))
        return _timed(self.read_picture, inputs, file)

    def hear(self, frames: int, file: str) -> Spent:
        """So many log-mel frames."""
        features = np.random.default_rng(0).standard_normal((frames, BINS)) - 2
        inputs = (mx.array(features.astype(np.float32)),)
        return _timed(self.read_sound, inputs, file)


def _timed(
    compute: Callable[..., mx.array], inputs: tuple[mx.array, ...], file: str
) -> Spent:
    mx.eval(inputs)
    watch = Stopwatch()
    out = compute(*inputs)
    mx.eval(out)
    spent = watch.read()
    np.save(file, np.array(out.astype(mx.float32)))
    return spent


def load_ours(folder: Path) -> Towers:
    from mlx_gemma4.checkpoint.load import load_model

    model = load_model(folder)
    return Towers(
        lambda pixels, where: model.embed_vision(model.vision_tower(pixels, where)),
        lambda frames: model.embed_audio(model.audio_tower(frames)),
    )


def load_mlx_vlm(folder: Path) -> Towers:
    from mlx_vlm.utils import load_model

    model = load_model(folder)

    def hear(frames: mx.array) -> mx.array:
        heard = mx.zeros((1, len(frames)), mx.bool_)  # True would be padding
        return model.embed_audio(model.audio_tower(frames[None], heard)[0])[0]

    return Towers(
        lambda pixels, where: model.encode_image(pixels[None], where[None])[0], hear
    )


LOADERS = {"mlx-gemma4": load_ours, "mlx-vlm": load_mlx_vlm}


def run(answer: Callable[[object], None], name: str, folder: str) -> None:
    towers = LOADERS[name](Path(folder))
    answer("ready")
    serve(towers, answer)
