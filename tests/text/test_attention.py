"""Every kind of attention against the reference, and masks you can see."""

import golden
import mlx.core as mx
import numpy as np
import pytest
import tiny

from mlx_gemma4.cache import parted
from mlx_gemma4.config import Config
from mlx_gemma4.text.masks import vision_blocks, vision_window_mask, window_mask

# (variant, layer) by what is special about the layer's attention
KINDS = {
    "sliding": ("E2B", 3),
    "full": ("E2B", 4),
    "kv-shared sliding": ("E2B", 5),
    "kv-shared full": ("E2B", 9),
    "sliding, grouped": ("26B-A4B", 0),
    "k = v, fewer global heads": ("26B-A4B", 5),
    "k = v, grouped": ("31B", 5),
    "k = v, source of shared layers": ("demo", 2),
    "k = v, kv-shared": ("demo", 5),
}


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_reference(kind: str) -> None:
    variant, i = KINDS[kind]
    blocks = golden.arrays(f"blocks-{variant}")
    model = tiny.build(variant, golden.SEED)
    text = model.config.text_config
    source = text.kv_source(i)
    x = mx.array(blocks[f"layers.{i}.self_attn.in"])
    source_x = mx.array(blocks[f"layers.{source}.self_attn.in"])
    L = x.shape[1]
    rotations = model.language_model.rotations(mx.zeros(1, mx.int32), L, x.dtype)
    rotation = rotations[text.layer_types[i]]
    kv = parted(model.layers[source].self_attn.keys_values(source_x, rotation))
    mask = window_mask(L, L, tiny.WINDOW) if text.is_sliding(i) else "causal"
    attention = model.layers[i].self_attn
    out = attention.o_proj(attention(attention.queries(x, rotation), kv, mask))
    golden.check_block(out, blocks[f"layers.{i}.self_attn.out0"])


def names(variant: str, layer: int) -> set[str]:
    attention = tiny.build(variant).layers[layer].self_attn
    return set(attention.children())


def test_modules_follow_the_kind_of_layer() -> None:
    own = {"q_proj", "q_norm", "k_proj", "k_norm", "o_proj"}
    assert names("E2B", 0) == own | {"v_proj"}
    assert names("26B-A4B", 0) == own | {"v_proj"}
    assert names("26B-A4B", 5) == own
    assert names("E2B", 9) == {"q_proj", "q_norm", "o_proj"}


def drawing(mask: mx.array) -> list[str]:
    rows = np.array(mask).reshape(mask.shape[-2:])
    return ["".join("#" if seen else "." for seen in row) for row in rows]


def test_window_mask() -> None:
    mask = window_mask(5, 5, 3)
    assert isinstance(mask, mx.array)
    assert drawing(mask) == ["#....", "##...", "###..", ".###.", "..###"]


def test_window_mask_behind_a_cache() -> None:
    mask = window_mask(2, 4, 3)
    assert isinstance(mask, mx.array)
    assert drawing(mask) == ["###.", ".###"]


def test_no_array_where_none_is_needed() -> None:
    assert window_mask(1, 3, 3) is None
    assert window_mask(3, 3, 3) == "causal"


def test_vision_blocks_are_runs() -> None:
    flags = mx.array([[True, True, False, False, True, False, True]])
    assert vision_blocks(flags).tolist() == [[0, 0, -1, -1, 1, -1, 2]]


def test_pictures_look_ahead_but_not_behind_the_window() -> None:
    """Inside a block the right side has no bound; the left side keeps the window."""
    blocks = mx.array([[-1, 0, 0, 0, 0, 0, -1, 1, 1]])
    assert drawing(vision_window_mask(blocks, 9, 3)) == [
        "#........",
        "######...",
        "######...",
        ".#####...",
        "..####...",
        "...###...",
        "....###..",
        ".....####",
        "......###",
    ]


def test_pictures_behind_a_cache() -> None:
    blocks = mx.array([[-1, 0, 0]])
    assert drawing(vision_window_mask(blocks, 5, 3)) == ["###..", ".####", "..###"]


def test_a_batch_has_a_mask_per_row() -> None:
    blocks = mx.array([[-1, 0, 0], [0, 0, -1]])
    mask = vision_window_mask(blocks, 3, 8)
    assert mask.shape == (2, 1, 3, 3)
    assert drawing(mask[0]) == ["#..", "###", "###"]
    assert drawing(mask[1]) == ["##.", "##.", "###"]


@pytest.mark.parametrize("variant", ["E2B", "31B"])
def test_head_sizes(variant: str) -> None:
    config = Config.from_dict(tiny.config_dict(variant)).text_config
    for i, layer in enumerate(tiny.build(variant).layers):
        size = config.head_dim if config.is_sliding(i) else config.global_head_dim
        assert layer.self_attn.q_norm.weight.shape == (size,)
