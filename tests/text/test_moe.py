"""The router and the experts, against the reference and a plain loop."""

import io

import golden
import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import tiny

from mlx_gemma4.config import Config
from mlx_gemma4.layers import geglu
from mlx_gemma4.text.moe import SORT_FROM, ExpertLinear, Experts, Router

LAYERS = [("26B-A4B", 0), ("26B-A4B", 5), ("demo", 1), ("demo", 5)]


@pytest.mark.parametrize(("variant", "i"), LAYERS)
def test_router_equals_the_reference(variant: str, i: int) -> None:
    blocks = golden.arrays(f"blocks-{variant}")
    router = tiny.build(variant, golden.SEED).layers[i].router
    chosen, weights = router(mx.array(blocks[f"layers.{i}.router.in"]))
    # The order among the chosen means nothing: compare one row of experts per token.
    expected = spread(
        blocks[f"layers.{i}.router.out2"], blocks[f"layers.{i}.router.out1"]
    )
    ours = spread(np.array(chosen), np.array(weights))
    np.testing.assert_array_equal(ours > 0, expected > 0)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize(("variant", "i"), LAYERS)
def test_experts_equal_the_reference(variant: str, i: int) -> None:
    blocks = golden.arrays(f"blocks-{variant}")
    experts = tiny.build(variant, golden.SEED).layers[i].experts
    chosen = mx.array(blocks[f"layers.{i}.router.out2"])
    weights = mx.array(blocks[f"layers.{i}.router.out1"])
    out = experts(mx.array(blocks[f"layers.{i}.experts.in"]), chosen, weights)
    golden.check_block(out, blocks[f"layers.{i}.experts.out"])


def spread(chosen: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Chosen experts and weights [T, K] as one weight per expert, [T, 16]."""
    rows = np.zeros((len(chosen), 16), np.float32)
    np.put_along_axis(rows, chosen.astype(np.int64), weights, axis=-1)
    return rows


def router(top_k: int) -> Router:
    changes = {"top_k_experts": top_k, "num_experts": 6}
    config = Config.from_dict(tiny.config_dict("26B-A4B", **changes))
    made = Router(config.text_config)
    made.proj.weight = mx.array(tiny.random_tensor("router.proj.weight", (6, 32), 3))
    made.scale = mx.array(tiny.random_tensor("router.scale", (32,), 3))
    return made


@pytest.mark.parametrize("top_k", [1, 2, 6])
def test_weights_are_renormalised_then_scaled(top_k: int) -> None:
    made = router(top_k)
    x = mx.array(tiny.random_tensor("x", (9, 32), 3))
    chosen, weights = made(x)
    assert chosen.shape == weights.shape == (9, top_k)
    np.testing.assert_allclose(weights.sum(axis=-1), np.ones(9), rtol=1e-5)
    made.per_expert_scale = mx.arange(1.0, 7.0)
    again, scaled = made(x)
    np.testing.assert_array_equal(again, chosen)
    np.testing.assert_allclose(scaled, weights * (chosen + 1), rtol=1e-5)


def test_router_does_not_see_the_size_of_its_input() -> None:
    made = router(2)
    x = mx.array(tiny.random_tensor("x", (4, 32), 3))
    for ours, larger in zip(made(x), made(x * 50), strict=True):
        np.testing.assert_allclose(ours, larger, atol=1e-4)


def plain_loop(
    experts: Experts, x: mx.array, chosen: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    out = np.zeros(x.shape)
    for t, row in enumerate(chosen):
        for k, e in enumerate(row):
            both = x[t] @ experts.gate_up_proj.weight[int(e)].T
            gate, up = mx.split(both, 2)  # the gate comes first
            one = geglu(gate, up) @ experts.down_proj.weight[int(e)].T
            out[t] += weights[t, k] * np.array(one)
    return out


@pytest.mark.parametrize("tokens", [1, SORT_FROM // 3, SORT_FROM])
def test_experts_equal_a_plain_loop(tokens: int) -> None:
    """Few rows run as they come, many are sorted by expert first."""
    experts = tiny.build("26B-A4B", 4).layers[0].experts
    draw = np.random.RandomState(5)
    chosen = np.stack([draw.permutation(8)[:3] for _ in range(tokens)])
    weights = draw.uniform(0.1, 1, (tokens, 3)).astype(np.float32)
    x = mx.array(tiny.random_tensor("x", (tokens, 32), 4))
    out = experts(x, mx.array(chosen), mx.array(weights))
    np.testing.assert_allclose(
        out, plain_loop(experts, x, chosen, weights), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(("bits", "group_size"), [(4, 32), (8, 64)])
def test_quantised_experts_equal_their_dequantised_weights(
    bits: int, group_size: int
) -> None:
    linear = ExpertLinear(5, 64, 32)
    linear.weight = mx.array(tiny.random_tensor("experts", (5, 32, 64), 1))
    quantised = linear.to_quantized(group_size, bits)
    linear.weight = mx.dequantize(
        quantised.weight, quantised.scales, quantised.biases, group_size, bits
    )
    x = mx.array(tiny.random_tensor("x", (4, 1, 64), 1))
    experts = mx.array([0, 2, 2, 4])
    ours = quantised(x, experts, in_order=True)
    np.testing.assert_allclose(ours, linear(x, experts, in_order=True), atol=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_rows_are_not_numbered_anew(packed: bool) -> None:
    """By MLX, in two launches for each token and layer."""
    made = tiny.build("26B-A4B", golden.SEED, moe_intermediate_size=32).layers[0]
    if packed:
        nn.quantize(made.experts, 32, 4)
    x = mx.array(tiny.random_tensor("x", (2, 32), 1))
    graph = io.StringIO()
    mx.export_to_dot(graph, made.experts(x, *made.router(x)))
    name = "GatherQMM" if packed else "GatherMM"
    assert graph.getvalue().count(name) == 2
    assert "Arange" not in graph.getvalue()
