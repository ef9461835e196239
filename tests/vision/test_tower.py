"""The vision tower against the reference's, and what must not change its result."""

import os
from collections.abc import Mapping
from typing import Any

import golden
import mlx.core as mx
import numpy as np
import pytest
from tiny_towers import (
    BOUNDS,
    PICTURES,
    VISION,
    picture,
    tower_tensors,
    vision_shapes,
    whole_config,
)

from mlx_gemma4.config import Config, VisionConfig
from mlx_gemma4.vision import tower as module
from mlx_gemma4.vision.tower import VisionTower, pool

GOLDEN = golden.arrays("vision")
FIRST = int(os.environ.get("GEMMA4_SEED", "0"))


def build(config: Mapping[str, Any], seed: int = golden.SEED) -> VisionTower:
    parsed = Config.from_dict(whole_config(vision_config=config)).vision_config
    assert isinstance(parsed, VisionConfig)
    tower = VisionTower(parsed)
    tensors = tower_tensors(vision_shapes(config), seed)
    tower.load_weights([(n, mx.array(t)) for n, t in tensors.items()], strict=True)
    return tower


def soft_tokens(
    tower: VisionTower,
    config: Mapping[str, Any],
    size: tuple[int, int],
    seed: int = golden.SEED,
) -> mx.array:
    pixels, positions = picture(config, *size, seed)
    return tower(mx.array(pixels), mx.array(positions))


@pytest.mark.parametrize("size", PICTURES)
@pytest.mark.parametrize("variant", VISION)
def test_as_the_reference(variant: str, size: tuple[int, int]) -> None:
    """The reference read every picture padded to the largest, ours reads none so."""
    config = VISION[variant]
    ours = soft_tokens(build(config), config, size)
    golden.check_block(ours, GOLDEN[f"{variant}.{size[0]}x{size[1]}"])


@pytest.mark.slow
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(
    "linear", ["self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj"]
)
def test_clip_bounds_bite(linear: str, bound: str) -> None:
    """Every bound of the fixture's weights changes the result."""
    config = VISION["clipped"]
    tower = build(config)
    before = soft_tokens(tower, config, (2, 3))
    open_bound = mx.array(-mx.inf if bound.endswith("min") else mx.inf)
    name = f"encoder.layers.1.{linear}.{bound}"
    tower.load_weights([(name, open_bound)], strict=False)
    after = soft_tokens(tower, config, (2, 3))
    assert np.abs(np.array(after - before)).max() > 1e-3


def test_few_queries_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What bounds the memory on a CPU changes no result, also with a shorter rest."""
    config = VISION["both"]
    whole = soft_tokens(build(config), config, (4, 2))
    monkeypatch.setattr(module, "QUERIES", 5)
    golden.check_block(soft_tokens(build(config), config, (4, 2)), np.array(whole))


@pytest.mark.slow
@pytest.mark.skipif(mx.metal.is_available(), reason="the GPU's kernel keeps no scores")
def test_scores_of_a_large_picture_never_exist_at_once() -> None:
    """All of them would be 4 * 4096² bytes."""
    heads = mx.random.normal((1, 1, 4096, 4))
    mx.eval(heads)
    mx.reset_peak_memory()
    mx.eval(module.attend_all(heads, heads, heads))
    assert mx.get_peak_memory() < 4 * 4096**2


def test_no_bounds_without_clipped_linears() -> None:
    attention = build(VISION["standardized"]).encoder.layers[0].self_attn
    assert set(attention.q_proj.parameters()) == {"linear"}


def test_order_of_patches_is_free() -> None:
    """Only positions say where a patch is."""
    config = VISION["both"]
    tower = build(config)
    pixels, positions = picture(config, 3, 2, seed=1)
    order = np.random.RandomState(0).permutation(len(pixels))
    shuffled = tower(mx.array(pixels[order]), mx.array(positions[order]))
    straight = tower(mx.array(pixels), mx.array(positions))
    golden.check_block(shuffled, np.array(straight))


def test_position_matters() -> None:
    config = VISION["both"]
    tower = build(config)
    pixels, positions = picture(config, 3, 3, seed=1)
    there = tower(mx.array(pixels), mx.array(positions))
    across = tower(mx.array(pixels), mx.array(positions[:, ::-1].copy()))
    assert np.abs(np.array(across) - np.array(there)).max() > 0.1


def test_pool() -> None:
    """Means of 2 x 2 squares, row by row, of a grid 4 wide and 2 high."""
    x = mx.array([[0.0], [2.0], [10.0], [10.0], [4.0], [6.0], [10.0], [50.0]])
    grid = [[x, y] for y in range(2) for x in range(4)]
    assert pool(x, mx.array(grid), 2).tolist() == [[3.0], [20.0]]


def test_standardize() -> None:
    """(pooled - bias) * scale, in that order."""
    config = VISION["standardized"]
    plain, tower = build({**config, "standardize": False}), build(config)
    pooled = soft_tokens(plain, config, (2, 3))
    expected = (pooled - tower.std_bias) * tower.std_scale
    ours = soft_tokens(tower, config, (2, 3))
    np.testing.assert_allclose(ours, expected, rtol=1e-6)
    assert np.abs(np.array(ours - pooled)).max() > 0.5


@pytest.mark.parametrize("variant", VISION)
def test_bfloat16(variant: str) -> None:
    config = VISION[variant]
    tower = build(config)
    exact = soft_tokens(tower, config, (2, 3))
    tower.set_dtype(mx.bfloat16)
    half = soft_tokens(tower, config, (2, 3))
    assert half.dtype == mx.bfloat16
    apart = np.abs(np.array(half.astype(mx.float32) - exact))
    assert 0 < apart.mean() / np.abs(np.array(exact)).mean() < 0.1


@pytest.mark.reference
@pytest.mark.parametrize("seed", range(FIRST, FIRST + 4))
@pytest.mark.parametrize("variant", VISION)
def test_unseen_towers(variant: str, seed: int) -> None:
    """Random sizes and pictures, each padded for the reference only."""
    import torch_towers

    draw = np.random.RandomState(seed)
    heads, dim = int(draw.choice([2, 3, 4])), int(draw.choice([8, 12, 16]))
    config = {
        **VISION[variant],
        **{"num_attention_heads": heads, "num_key_value_heads": heads},
        **{"head_dim": dim, "hidden_size": heads * dim},
        "intermediate_size": int(draw.choice([20, 40])),
        "num_hidden_layers": int(draw.randint(1, 5)),
    }
    pictures = [(int(r), int(c)) for r, c in draw.randint(1, 7, (3, 2))]
    tower = build(config, seed)
    expected = torch_towers.seen(config, pictures, seed)
    for size, reference in zip(pictures, expected, strict=True):
        ours = soft_tokens(tower, config, size, seed)
        scale = np.abs(reference).max()
        np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-4 * scale)
