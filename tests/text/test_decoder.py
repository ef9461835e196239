"""One decoder layer of each kind, and the stack, against the reference."""

import golden
import mlx.core as mx
import numpy as np
import pytest
import tiny

from mlx_gemma4.cache import Seen
from mlx_gemma4.text.masks import window_mask

LAYERS = {
    "sliding, PLE": ("E2B", 0),
    "full, PLE": ("E2B", 4),
    "kv-shared sliding, double-wide": ("E2B", 5),
    "kv-shared full, double-wide": ("E2B", 9),
    "sliding, experts": ("26B-A4B", 0),
    "full, experts, k = v": ("26B-A4B", 5),
    "sliding, dense": ("31B", 0),
    "full, dense, k = v": ("31B", 5),
    "everything": ("demo", 2),
    "everything, kv-shared": ("demo", 5),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_layer_equals_the_reference(kind: str) -> None:
    variant, i = LAYERS[kind]
    blocks = golden.arrays(f"blocks-{variant}")
    model = tiny.build(variant, golden.SEED)
    text = model.config.text_config
    layer, source = model.layers[i], model.layers[text.kv_source(i)]
    h = mx.array(blocks[f"layers.{i}.in"])
    source_h = mx.array(blocks[f"layers.{text.kv_source(i)}.in"])
    L = h.shape[1]
    rotation = model.language_model.rotations(mx.zeros(1, mx.int32), L, h.dtype)[
        text.layer_types[i]
    ]
    x = source.input_layernorm(source_h)
    seen = Seen.all_of(source.self_attn.keys_values(x, rotation))
    mask = window_mask(L, L, tiny.WINDOW) if text.is_sliding(i) else "causal"
    queries = layer.self_attn.queries(layer.input_layernorm(h), rotation, mask)
    found = layer.self_attn(queries, seen, rotation, mask)
    per_layer = None
    if "per_layer_inputs" in blocks:
        per_layer = mx.array(blocks["per_layer_inputs"][None, :, i])
    out, _ = layer(h, found, per_layer)
    golden.check_block(out, blocks[f"layers.{i}.out"])


@pytest.mark.parametrize(("variant", "i"), [("E2B", 0), ("E2B", 9), ("26B-A4B", 5)])
def test_mlp_equals_the_reference(variant: str, i: int) -> None:
    blocks = golden.arrays(f"blocks-{variant}")
    mlp = tiny.build(variant, golden.SEED).layers[i].mlp
    out = mlp(mx.array(blocks[f"layers.{i}.mlp.in"]))
    golden.check_block(out, blocks[f"layers.{i}.mlp.out"])


def test_only_kv_shared_layers_are_double_wide() -> None:
    widths = [x.mlp.up_proj.weight.shape[0] for x in tiny.build("E2B").layers]
    assert widths == [48] * 5 + [96] * 5
    widths = [x.mlp.up_proj.weight.shape[0] for x in tiny.build("E4B").layers]
    assert widths == [48] * 12


@pytest.mark.slow
@pytest.mark.parametrize("variant", tiny.VARIANTS)
@pytest.mark.parametrize("length", [1, 8, 21])
@pytest.mark.parametrize("before", [0, 3, 12])
def test_last_only_equals_the_last_of_all(
    variant: str, length: int, before: int
) -> None:
    """A prefill that computes less gives the same answer and the same cache."""
    model = tiny.build(variant, 2)
    tokens = mx.array([tiny.random_tokens(before + length + 1, 2)])
    rows = []
    for last_only in (False, True):
        cache = model.make_cache()
        if before:
            model(tokens[:, :before], cache)
        out = model(tokens[:, before:-1], cache, last_only=last_only)
        assert out.shape[1] == (1 if last_only else length)
        rows.append(mx.concatenate([out[:, -1:], model(tokens[:, -1:], cache)]))
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-4)


def test_nothing_after_a_position_reaches_it() -> None:
    model = tiny.build("demo", 3)
    tokens = tiny.random_tokens(20, 3)
    changed = [*tokens[:12], *tiny.random_tokens(8, 4)]
    a, b = tiny.logits(model, tokens), tiny.logits(model, changed)
    np.testing.assert_allclose(a[:12], b[:12], atol=1e-5)
    assert np.abs(a[12:] - b[12:]).max() > 0.1
