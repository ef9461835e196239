"""Per-layer inputs against the reference, and where their parts come from."""

import golden
import mlx.core as mx
import numpy as np
import pytest
import tiny


def inputs(variant: str, tokens: list[int], embeddings: mx.array | None = None):
    text = tiny.build(variant, golden.SEED).language_model
    ids = mx.array([tokens])
    h = text.embed(ids) if embeddings is None else embeddings
    parts = text.per_layer_inputs(ids, h)
    return mx.stack([part for part in parts if part is not None], axis=2)


@pytest.mark.parametrize("variant", ["E2B", "demo"])
def test_equals_the_reference(variant: str) -> None:
    tokens = tiny.random_tokens(33, golden.SEED + 33)
    expected = golden.arrays(f"blocks-{variant}")["per_layer_inputs"]
    golden.check_block(inputs(variant, tokens)[0], expected)


def test_token_part_comes_from_the_ids_alone() -> None:
    """With the same embeddings, other ids change only their own positions."""
    h = mx.array(tiny.random_tensor("h", (1, 3, 32), 0))
    a, b = inputs("E2B", [5, 6, 7], h), inputs("E2B", [5, 9, 7], h)
    changed = np.array(mx.abs(a - b).max(axis=(0, 2, 3)) > 1e-3)
    assert changed.tolist() == [False, True, False]


def test_context_part_comes_from_the_embeddings() -> None:
    h = mx.array(tiny.random_tensor("h", (1, 3, 32), 0))
    other = mx.concatenate([h[:, :2], -h[:, 2:]], axis=1)
    a, b = inputs("E2B", [5, 6, 7], h), inputs("E2B", [5, 6, 7], other)
    changed = np.array(mx.abs(a - b).max(axis=(0, 2, 3)) > 1e-3)
    assert changed.tolist() == [False, False, True]


@pytest.mark.parametrize("token", [tiny.IMAGE, tiny.VIDEO, tiny.AUDIO])
def test_media_positions_look_up_pad(token: int) -> None:
    model = tiny.build("E2B", 1)
    h = mx.array(tiny.random_tensor("h", (1, 3, 32), 0))
    media, pad = (model(mx.array([[5, t, 7]]), input_embeddings=h) for t in (token, 0))
    np.testing.assert_array_equal(media, pad)
    text = model(mx.array([[5, 6, 7]]), input_embeddings=h)
    assert float(mx.abs(text - pad).max()) > 1e-2


def test_models_without_have_none() -> None:
    text = tiny.build("31B").language_model
    assert "embed_tokens_per_layer" not in text
    assert "per_layer_input_gate" not in text.layers[0]
