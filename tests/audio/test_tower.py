"""The audio tower against the reference's, and what must not change its result."""

import os
from collections.abc import Mapping
from typing import Any

import golden
import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from tiny_towers import (
    AUDIO,
    BOUNDS,
    CLIPS,
    audio_shapes,
    clip,
    tower_tensors,
    whole_config,
)

from mlx_gemma4.audio.tower import AudioTower
from mlx_gemma4.config import AudioConfig, Config

GOLDEN = golden.arrays("audio")
FIRST = int(os.environ.get("GEMMA4_SEED", "0"))


def build(config: Mapping[str, Any], seed: int = golden.SEED) -> AudioTower:
    parsed = Config.from_dict(whole_config(audio_config=config)).audio_config
    assert isinstance(parsed, AudioConfig)
    tower = AudioTower(parsed)
    tensors = tower_tensors(audio_shapes(config), seed)
    tower.load_weights([(n, mx.array(t)) for n, t in tensors.items()], strict=True)
    return tower


def soft_tokens(
    tower: AudioTower, config: Mapping[str, Any], frames: int, seed: int = golden.SEED
) -> mx.array:
    return tower(mx.array(clip(config, frames, seed)))


@pytest.mark.parametrize("frames", CLIPS)
@pytest.mark.parametrize("variant", AUDIO)
def test_as_the_reference(variant: str, frames: int) -> None:
    """The reference read every clip padded to one length, ours reads none so."""
    config = AUDIO[variant]
    ours = soft_tokens(build(config), config, frames)
    golden.check_block(ours, GOLDEN[f"{variant}.{frames}"])


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 8, 9, 96, 97, 100])
def test_soft_tokens_of_a_clip(frames: int) -> None:
    """Halved twice, rounded up each time."""
    config = AUDIO["clipped"]
    ours = soft_tokens(build(config), config, frames)
    assert ours.shape == (((frames + 1) // 2 + 1) // 2, config["output_proj_dims"])


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(
    "linear",
    ["self_attn.q_proj", "self_attn.post", "lconv1d.linear_start"],
)
def test_clip_bounds_bite(linear: str, bound: str) -> None:
    """Every bound of the fixture's weights changes the result."""
    config = AUDIO["clipped"]
    tower = build(config)
    before = soft_tokens(tower, config, 49)
    open_bound = mx.array(-mx.inf if bound.endswith("min") else mx.inf)
    tower.load_weights([(f"layers.1.{linear}.{bound}", open_bound)], strict=False)
    after = soft_tokens(tower, config, 49)
    assert np.abs(np.array(after - before)).max() > 1e-3


@pytest.mark.parametrize(
    ("variant", "key", "value"),
    [
        ("clipped", "attention_logit_cap", 50.0),
        ("clipped", "attention_context_left", 12),
        ("unclipped", "gradient_clipping", 3.0),
        ("unclipped", "residual_weight", 0.4),
    ],
)
def test_every_setting_counts(variant: str, key: str, value: float) -> None:
    config = AUDIO[variant]
    before = soft_tokens(build(config), config, 100)
    changed = {**config, key: value}
    after = soft_tokens(build(changed), changed, 100)
    assert np.abs(np.array(after - before)).max() > 1e-3


def test_the_future_is_not_heard() -> None:
    """Without a right context, a soft token hears its frames and three more."""
    config = AUDIO["clipped"]
    tower = build(config)
    features = clip(config, 100, seed=1)
    before = np.array(tower(mx.array(features)))
    features[60:] += 3
    after = np.array(tower(mx.array(features)))
    np.testing.assert_allclose(after[:15], before[:15], atol=1e-5)
    assert (np.abs(after - before).max(axis=1) > 0.01)[15:].all()


@pytest.mark.parametrize("variant", AUDIO)
def test_bfloat16(variant: str) -> None:
    config = AUDIO[variant]
    tower = build(config)
    exact = soft_tokens(tower, config, 49)
    tower.set_dtype(mx.bfloat16)
    half = soft_tokens(tower, config, 49)
    assert half.dtype == mx.bfloat16
    apart = np.abs(np.array(half.astype(mx.float32) - exact))
    assert 0 < apart.mean() / np.abs(np.array(exact)).mean() < 0.1


@pytest.mark.reference
@pytest.mark.parametrize("seed", range(FIRST, FIRST + 4))
@pytest.mark.parametrize("variant", AUDIO)
def test_unseen_towers(variant: str, seed: int) -> None:
    """Random sizes and clips, each padded for the reference only."""
    import torch_towers

    draw = np.random.RandomState(seed)
    config = {
        **AUDIO[variant],
        "num_attention_heads": int(draw.choice([1, 2, 4])),
        "hidden_size": int(draw.choice([16, 24, 40])),
        "num_hidden_layers": int(draw.randint(1, 5)),
        "attention_chunk_size": int(draw.randint(2, 13)),
        "attention_context_left": int(draw.randint(3, 14)),
        "attention_context_right": int(draw.randint(0, 5)),
        "conv_kernel_size": int(draw.randint(1, 6)),
    }
    clips = draw.randint(1, 130, 3).tolist()
    tower = build(config, seed)
    expected = torch_towers.heard(config, clips, seed)
    for frames, reference in zip(clips, expected, strict=True):
        ours = soft_tokens(tower, config, frames, seed)
        scale = np.abs(reference).max()
        np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-4 * scale)


def test_a_frozen_tower_has_nothing_to_train() -> None:
    tower = build(AUDIO["clipped"])
    tower.freeze()
    assert tree_flatten(tower.trainable_parameters()) == []
    tower.unfreeze()
    tower.update(tower.parameters())
