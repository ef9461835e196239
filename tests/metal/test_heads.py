"""The kernel of heads' norms and rotations, against float64."""

import mlx.core as mx
import numpy as np
import pytest
from checks import CHECKS, DTYPES, Cpu, close, exact, mutated, random
from translate import MetalFault

from mlx_gemma4.config import RopeParameters
from mlx_gemma4.kernels import rotate_keys, rotate_queries, using
from mlx_gemma4.rope import Rotation, rope_periods, rotation_at

EPS = 1e-6
SLIDING = RopeParameters("default", 10_000.0)
FULL = RopeParameters("proportional", 1_000_000.0, 0.25)


def rotation_of(dim: int, rope: RopeParameters, offset: int) -> Rotation:
    return rotation_at(rope_periods(dim, rope), offset, 1, mx.float32)


def rotated(x: np.ndarray, weight: np.ndarray, rotation: Rotation) -> np.ndarray:
    """`x` [B, L, H, D] -> [B, H, L, D]."""
    x = normed(x.swapaxes(1, 2)) * weight
    positions = rotation.offset + np.arange(x.shape[2])
    angles = positions[:, None] / exact(rotation.periods)
    first, second = np.split(x, 2, axis=-1)
    cos, sin = np.cos(angles), np.sin(angles)
    halves = [first * cos - second * sin, second * cos + first * sin]
    return np.concatenate(halves, axis=-1)


def normed(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + EPS)


def check(
    shape: tuple[int, int, int, int], rotation: Rotation, dtype: mx.Dtype
) -> None:
    keys, values = random(1, shape, dtype), random(2, shape, dtype)
    weight = random(3, shape[3:], dtype) + 2
    expected = rotated(exact(keys), exact(weight), rotation)
    close(rotate_queries(keys, weight, EPS, rotation), expected)
    ours, others = rotate_keys(keys, values, weight, EPS, rotation)
    close(ours, expected)
    close(others, normed(exact(values).swapaxes(1, 2)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rope", [SLIDING, FULL])
def test_odd_sizes(cpu: Cpu, rope: RopeParameters, dtype: mx.Dtype) -> None:
    """Less than a pair for each lane, and all lanes; batches; several positions."""
    with using("heads", make=cpu().metal_kernel):
        for shape in ((1, 1, 1, 2), (1, 5, 3, 24), (2, 4, 1, 64)):
            check(shape, rotation_of(shape[3], rope, 7), dtype)


@pytest.mark.parametrize(("heads", "dim", "rope"), [(8, 256, SLIDING), (2, 512, FULL)])
def test_real_heads_far_into_a_text(
    cpu: Cpu, heads: int, dim: int, rope: RopeParameters
) -> None:
    with using("heads", make=cpu().metal_kernel):
        check((1, 1, heads, dim), rotation_of(dim, rope, 3000), mx.bfloat16)


@pytest.mark.parametrize(("check_for", "schedule"), CHECKS)
def test_memory_and_order(cpu: Cpu, check_for: str, schedule: str) -> None:
    harness = cpu(check=check_for, schedule=schedule)
    with using("heads", make=harness.metal_kernel):
        check((1, 2, 3, 24), rotation_of(24, SLIDING, 5), mx.bfloat16)


MUTATIONS = {
    "a pair too many": (
        "address",
        ("first[j] = i < middle ?", "first[j] = i <= middle + 99 ?"),
        "heap-buffer-overflow",
    ),
    "values that land on keys": (
        "races",
        ("normed[base + i] =", "rotated[base + i] ="),
        "data race|never written",
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_is_caught(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch, mutation: str
) -> None:
    check_for, change, message = MUTATIONS[mutation]
    with (
        mutated(monkeypatch, "heads", *change),
        using("heads", make=cpu(check=check_for).metal_kernel),
        pytest.raises(MetalFault, match=message),
    ):
        check((1, 2, 3, 24), rotation_of(24, SLIDING, 5), mx.bfloat16)


def test_gradients_are_the_plain_ones(cpu: Cpu) -> None:
    keys, values = (random(i, (1, 3, 2, 8), mx.float32) for i in (1, 2))
    weight = random(3, (8,), mx.float32)
    rotation = rotation_at(rope_periods(8, SLIDING), 4, 3, mx.float32)
    factors = random(4, (2, 1, 2, 3, 8), mx.float32)

    def loss(keys: mx.array, values: mx.array, weight: mx.array) -> mx.array:
        both = list(rotate_keys(keys, values, weight, EPS, rotation))
        again = rotate_queries(keys, weight, EPS, rotation)
        return (mx.stack(both) * factors).sum() + (again**3).sum()

    gradients = mx.grad(loss, argnums=(0, 1, 2))
    with using("heads", make=cpu().metal_kernel):
        ours = gradients(keys, values, weight)
    for a, b in zip(ours, gradients(keys, values, weight), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
