"""The towers of one program in a process of its own, for `compare_towers.py`.

    python tower_worker.py NAME FOLDER DTYPE STARTED

answers lines of JSON as `worker.py` does: `["see", rows, columns, file]` reads a
picture of so many soft tokens, `["hear", frames, file]` so many log-mel frames.
Both end at the text decoder's width. What was computed is saved where `file` says.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
from implementations import OURS

PATCH, POOLING, BINS = 16, 3, 128  # of all published towers


@dataclass(frozen=True)
class Towers:
    """A program with the checkpoint loaded.

    see(pixels [P, patch² * 3], positions [P, 2]), hear(frames [T, bins]): the soft
    tokens as embeddings of the text decoder.
    """

    see: Callable[[mx.array, mx.array], mx.array]
    hear: Callable[[mx.array], mx.array]


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


PROGRAMS = {OURS: load_ours, "mlx-vlm": load_mlx_vlm}


@dataclass(frozen=True)
class Session:
    """What the process does between two lines."""

    towers: Towers

    def see(self, rows: int, columns: int, file: str) -> dict[str, float]:
        height, width = rows * POOLING, columns * POOLING
        pixels = np.random.default_rng(0).random((height * width, 3 * PATCH**2))
        y, x = np.divmod(np.arange(height * width), width)
        inputs = mx.array(pixels.astype(np.float32)), mx.array(np.stack([x, y], -1))
        return _timed(self.towers.see, inputs, file)

    def hear(self, frames: int, file: str) -> dict[str, float]:
        features = np.random.default_rng(0).standard_normal((frames, BINS)) - 2
        return _timed(self.towers.hear, (mx.array(features.astype(np.float32)),), file)


def _timed(
    compute: Callable[..., mx.array], inputs: tuple[mx.array, ...], file: str
) -> dict[str, float]:
    mx.eval(inputs)
    wall, cpu = time.perf_counter(), time.process_time()
    out = compute(*inputs)
    mx.eval(out)
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    np.save(file, np.array(out.astype(mx.float32)))
    return spent


def main() -> None:
    name, folder, _, started = sys.argv[1:]
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a program prints is not an answer
    session = Session(PROGRAMS[name](Path(folder)))
    start_up = {"wall": time.time() - float(started), "cpu": time.process_time()}
    print(json.dumps({**start_up, "step": 0}), file=replies)
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        print(json.dumps(getattr(session, method)(*arguments)), file=replies)


if __name__ == "__main__":
    main()
