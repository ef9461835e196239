"""What sees without a tower, against its equations in float64."""

import mlx.core as mx
import numpy as np
import pytest
from tiny_towers import SQUARES, embedder_shapes, picture, tower_tensors

from mlx_gemma4.config import VisionEmbedderConfig
from mlx_gemma4.vision.embedder import VisionEmbedder

CONFIG = VisionEmbedderConfig(4, 3, 32, 40, 32, 1e-6)
TENSORS = tower_tensors(embedder_shapes(SQUARES), 1)


def embedder() -> VisionEmbedder:
    made = VisionEmbedder(CONFIG)
    made.load_weights([(name, mx.array(t)) for name, t in TENSORS.items()])
    return made


def norm(x: np.ndarray, name: str) -> np.ndarray:
    x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5)
    return x * TENSORS[f"{name}.weight"] + TENSORS[f"{name}.bias"]


def expected(pixels: np.ndarray, positions: np.ndarray) -> np.ndarray:
    h = norm(pixels.astype(np.float64), "patch_ln1")
    h = h @ TENSORS["patch_dense.weight"].T.astype(np.float64)
    h = norm(h + TENSORS["patch_dense.bias"], "patch_ln2")
    table = TENSORS["pos_embedding"].astype(np.float64)
    h = h + table[positions[:, 0], 0] + table[positions[:, 1], 1]
    return norm(h, "pos_norm")


@pytest.mark.parametrize("contrast", [1, 0.01])  # of an even sky, little is left
def test_equals_its_equations(contrast: float) -> None:
    pixels, positions = picture(SQUARES, 3, 5, seed=2)
    pixels = (0.9 + contrast * (pixels - 0.9)).astype(np.float32)
    soft = embedder()(mx.array(pixels), mx.array(positions))
    assert np.abs(np.array(soft) - expected(pixels, positions)).max() < 1e-5


def test_weights_of_less_precision() -> None:
    """Pixels are not rounded to them before their mean is taken off."""
    made = embedder()
    made.set_dtype(mx.float16)
    pixels, positions = picture(SQUARES, 2, 2, seed=2)
    pixels = (0.9 + 0.01 * (pixels - 0.9)).astype(np.float32)
    soft = made(mx.array(pixels), mx.array(positions))
    assert soft.dtype == mx.float16
    assert np.abs(np.array(soft) - expected(pixels, positions)).max() < 2e-2
