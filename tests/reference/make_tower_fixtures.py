"""Writes tests/fixtures/vision.npz, audio.npz and media_models.npz.

    PYTHONPATH=tests/support python tests/reference/make_tower_fixtures.py

They hold outputs only, of the reference's towers and of whole models, which read their
media padded to one size: weights and inputs are drawn anew from `tiny_towers`.
"""

import numpy as np
import tiny_media
import torch
import torch_model
import torch_towers
from make_fixtures import SEED, save
from tiny_towers import AUDIO, CLIPS, PICTURES, VISION


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


def models() -> dict[str, np.ndarray]:
    """Logits [L, vocab] of prompts with every kind of media."""
    found: dict[str, np.ndarray] = {}
    for name, parts in tiny_media.MODELS.items():
        config = tiny_media.config_dict(*parts)
        made = tiny_media.prompt(config, SEED)
        model = torch_model.build(config, SEED)
        found[name] = torch_model.media_logits(model, config, made.padded)
    return found


def main() -> None:
    torch.set_num_threads(1)
    save("media_models", models())
    save("vision", vision())
    save("audio", audio())


if __name__ == "__main__":
    main()
