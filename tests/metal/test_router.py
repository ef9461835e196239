"""The kernel that chooses experts, against a sort in float64."""

import mlx.core as mx
import numpy as np
import pytest
from checks import CHECKS, DTYPES, Cpu, close, exact, mutated, random
from translate import MetalFault

from mlx_gemma4.kernels import choose_experts, using


def check(scores: mx.array, top_k: int) -> None:
    """The kernel's choice and weights, best first."""
    scale = random(9, scores.shape[1:], scores.dtype) + 2
    chosen, weights = choose_experts(scores, scale, top_k)
    # A stable sort: of equal scores the first wins.
    expected = np.argsort(-exact(scores), axis=-1, kind="stable")[:, :top_k]
    close(chosen, expected)
    logits = np.take_along_axis(exact(scores), expected, axis=-1)
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    close(weights, shares * exact(scale)[expected])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_real_shape(cpu: Cpu, dtype: mx.Dtype) -> None:
    """128 experts, 8 of them, for one token and for the most. In 16 bits many scores
    are equal."""
    with using("router", make=cpu().metal_kernel):
        for tokens in (1, 16):
            check(random(tokens, (tokens, 128), dtype), 8)


@pytest.mark.parametrize(
    ("experts", "top_k"), [(1, 1), (4, 2), (31, 31), (33, 32), (70, 3)]
)
def test_odd_sizes(cpu: Cpu, experts: int, top_k: int) -> None:
    with using("router", make=cpu().metal_kernel):
        check(random(experts, (3, experts), mx.float32), top_k)


def test_experts_that_are_shut_out_come_last(cpu: Cpu) -> None:
    scores = random(1, (2, 70), mx.float32)
    scores[:, 5:] = -mx.inf
    with using("router", make=cpu().metal_kernel):
        check(scores, 3)
        chosen, _ = choose_experts(scores.astype(mx.float32)[:, 3:], mx.ones(67), 3)
    np.testing.assert_array_equal(np.sort(chosen)[0], [0, 1, 2])


def test_a_broken_score_never_names_an_expert_that_is_not_there(cpu: Cpu) -> None:
    scores = mx.full((1, 70), mx.nan)
    with using("router", make=cpu().metal_kernel):
        chosen, _ = choose_experts(scores, mx.ones(70), 3)
    assert np.array(chosen).max() < 70


@pytest.mark.parametrize(("check_for", "schedule"), CHECKS)
def test_memory_and_order(cpu: Cpu, check_for: str, schedule: str) -> None:
    harness = cpu(check=check_for, schedule=schedule)
    with using("router", make=harness.metal_kernel):
        check(random(3, (2, 70), mx.bfloat16), 3)


def test_an_expert_too_many_is_caught(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        mutated(monkeypatch, "router", "? float(scores", "|| true ? float(scores"),
        using("router", make=cpu(check="address").metal_kernel),
        pytest.raises(MetalFault, match="heap-buffer-overflow"),
    ):
        choose_experts(random(3, (2, 70), mx.bfloat16), mx.ones(70, mx.bfloat16), 3)


def test_a_place_left_empty_is_caught(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        mutated(monkeypatch, "router", "if (lane < K) {", "if (lane < K - 1) {"),
        using("router", make=cpu(check="races").metal_kernel),
        pytest.raises(MetalFault, match="output 3: 8 of 24 bytes were never written"),
    ):
        choose_experts(random(3, (2, 70), mx.bfloat16), mx.ones(70, mx.bfloat16), 3)


def test_gradients_are_the_plain_ones(cpu: Cpu) -> None:
    scores, scale = random(1, (2, 12), mx.float32), random(2, (12,), mx.float32) + 2

    def loss(scores: mx.array, scale: mx.array) -> mx.array:
        chosen, weights = choose_experts(scores, scale, 3)
        return (weights * (mx.stop_gradient(chosen) + 1)).sum()

    gradients = mx.grad(loss, argnums=(0, 1))
    with using("router", make=cpu().metal_kernel):
        ours = gradients(scores, scale)
    for a, b in zip(ours, gradients(scores, scale), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
