"""Low-rank layers: what they compute, on float and on quantised maps."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlx_gemma4.text.moe import ExpertLinear
from mlx_gemma4.tune.lora import (
    DoRALinear,
    LoRAExperts,
    LoRALinear,
    plain_weight,
    sizes,
)


def draw(*shape: int) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(sum(shape)))


def linear(bias: bool, bits: int | None) -> nn.Linear | nn.QuantizedLinear:
    base = nn.Linear(64, 32, bias=bias)
    base.weight = draw(32, 64) / 8
    if bias:
        base.bias = draw(32)
    if bits is None:
        return base
    packed = base.to_quantized(32, bits)
    assert isinstance(packed, nn.QuantizedLinear)
    return packed


def close(ours: mx.array, theirs: mx.array) -> None:
    np.testing.assert_allclose(np.array(ours), np.array(theirs), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("bits", [None, 4, 5, 8])
@pytest.mark.parametrize("bias", [False, True])
def test_lora_is_a_map_with_another_weight(bias: bool, bits: int | None):
    base = linear(bias, bits)
    assert sizes(base) == (64, 32)
    a, b, x = draw(64, 3), draw(3, 32), draw(2, 5, 64)
    layer = LoRALinear(base, a, b, 0.5)
    weight = plain_weight(base) + 0.5 * (a @ b).T
    close(layer.merged(), weight)
    close(layer(x), x @ weight.T + (base.bias if bias else 0))


@pytest.mark.parametrize("bits", [None, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_dora_gives_every_output_its_norm(bias: bool, bits: int | None):
    base = linear(bias, bits)
    a, b, x = draw(64, 3), draw(3, 32), draw(2, 5, 64)
    same = DoRALinear(base, a, mx.zeros((3, 32)), 0.5)
    close(same(x), base(x))
    m = mx.abs(draw(32)) + 0.5
    layer = DoRALinear(base, a, b, 0.5, m)
    weight = plain_weight(base) + 0.5 * (a @ b).T
    weight = weight * (m / mx.linalg.norm(weight, axis=1))[:, None]
    close(layer.merged(), weight)
    close(layer(x), x @ weight.T + (base.bias if bias else 0))


@pytest.mark.parametrize("bits", [None, 4])
@pytest.mark.parametrize("in_order", [False, True])
def test_experts_each_have_their_own(in_order: bool, bits: int | None):
    base = ExpertLinear(3, 64, 32)
    base.weight = draw(3, 32, 64)
    if bits is not None:
        base = base.to_quantized(32, bits)
    assert sizes(base) == (64, 32)
    a, b, x = draw(3, 2, 64), draw(3, 32, 2), draw(4, 1, 64)
    chosen = mx.array([0, 0, 1, 2])
    layer = LoRAExperts(base, a, b, 0.5)
    weight = plain_weight(base) + 0.5 * b @ a
    close(layer.merged(), weight)
    expected = x @ weight[chosen].swapaxes(-1, -2)
    np.testing.assert_allclose(
        np.array(layer(x, chosen, in_order)), np.array(expected), rtol=1e-4, atol=1e-4
    )


def test_only_the_low_rank_part_is_learned():
    base = linear(True, None)
    base.freeze()
    layer = LoRALinear(base, draw(64, 2), draw(2, 32), 1.0)
    assert set(layer.trainable_parameters()) == {"linear", "lora_a", "lora_b"}
    assert not layer.trainable_parameters()["linear"]
    dora = DoRALinear(base, draw(64, 2), draw(2, 32), 1.0)
    assert set(dora.trainable_parameters()) == {"linear", "lora_a", "lora_b", "m"}
