"""Writes tests/fixtures/vision.npz and audio.npz from the reference's towers.

    cd tests && python -m reference.make_tower_fixtures

Both hold outputs only, of pictures and clips that were padded to one size: weights and
inputs are drawn anew from `tiny_towers`.
"""

import numpy as np
import torch
from tiny_towers import AUDIO, CLIPS, PICTURES, VISION

from . import torch_towers
from .make_fixtures import SEED, save


def vision() -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for variant, config in VISION.items():
        outputs = torch_towers.seen(config, PICTURES, SEED)
        for (rows, columns), soft in zip(PICTURES, outputs, strict=True):
            found[f"{variant}.{rows}x{columns}"] = soft
    return found


def audio() -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for variant, config in AUDIO.items():
        outputs = torch_towers.heard(config, CLIPS, SEED)
        found |= {
            f"{variant}.{n}": soft for n, soft in zip(CLIPS, outputs, strict=True)
        }
    return found


def main() -> None:
    torch.set_num_threads(1)
    save("vision", vision())
    save("audio", audio())


if __name__ == "__main__":
    main()
