"""The kernel of heads' norms and rotations, against float64."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import pytest
from checks import CHECKS, DTYPES, Cpu, close, exact, mutated, random
from translate import MetalFault

from mlx_gemma4.config import RopeParameters
from mlx_gemma4.kernels import rotate_heads, rotate_keys, rotate_queries, using
from mlx_gemma4.rope import Rotation, rope_periods, rotation_at

EPS = 1e-6
SLIDING = RopeParameters("default", 10_000.0)
FULL = RopeParameters("proportional", 1_000_000.0, 0.25)


def rotated(x: np.ndarray, weight: np.ndarray, rotation: Rotation) -> np.ndarray:
    """`x` [B, L, H, D] -> [B, H, L, D]."""
    x = normed(x.swapaxes(1, 2)) * weight
    positions = rotation.position.item() + np.arange(x.shape[2])
    angles = positions[:, None] / exact(rotation.periods)
    first, second = np.split(x, 2, axis=-1)
    cos, sin = np.cos(angles), np.sin(angles)
    halves = [first * cos - second * sin, second * cos + first * sin]
    return np.concatenate(halves, axis=-1)


def normed(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + EPS)


@dataclass(frozen=True)
class Case:
    """What is projected of some positions."""

    batch: int = 1
    rows: int = 2
    heads: int = 6
    kv_heads: int = 3
    dim: int = 24
    rope: RopeParameters = SLIDING
    offset: int = 7
    scale: float = 1.0
    dtype: mx.Dtype = mx.bfloat16

    @property
    def rotation(self) -> Rotation:
        periods = rope_periods(self.dim, self.rope)
        position = mx.array([self.offset], mx.int32)
        return rotation_at(periods, position, self.rows, mx.float32)

    def raw(self) -> tuple[mx.array, mx.array, mx.array]:
        """Queries, keys and values."""
        shape = self.batch, self.rows
        counts = enumerate((self.heads, self.kv_heads, self.kv_heads))
        q, k, v = (random(i, (*shape, n, self.dim), self.dtype) for i, n in counts)
        return q * self.scale, k * self.scale, v * self.scale

    def weights(self) -> tuple[mx.array, mx.array]:
        q, k = (random(i, (self.dim,), self.dtype) + 2 for i in (4, 5))
        return q, k

    def check(self) -> None:
        """All together, and queries, and keys and values, for themselves."""
        raw, weights = self.raw(), self.weights()
        expected = [
            rotated(exact(x), exact(weight), self.rotation)
            for x, weight in zip(raw[:2], weights, strict=True)
        ]
        kv = np.concatenate([expected[1], normed(exact(raw[2]).swapaxes(1, 2))], axis=1)
        queries, ours = rotate_heads(*raw, *weights, EPS, self.rotation)
        close(queries, expected[0])
        close(joined(ours), kv)
        close(rotate_queries(raw[0], weights[0], EPS, self.rotation), expected[0])
        close(joined(rotate_keys(*raw[1:], weights[1], EPS, self.rotation)), kv)


def joined(kv: Sequence[mx.array]) -> mx.array:
    return mx.concatenate(list(kv), axis=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rope", [SLIDING, FULL])
def test_odd_sizes(cpu: Cpu, rope: RopeParameters, dtype: mx.Dtype) -> None:
    """Not a pair for each thread, and all; batches; several positions."""
    harness = cpu()
    with using("heads", make=harness.metal_kernel):
        Case(1, 1, 1, 1, 8, rope, dtype=dtype).check()
        Case(1, 5, 3, 3, 24, rope, dtype=dtype).check()
        Case(2, 4, 5, 1, 136, rope, dtype=dtype).check()
    one, both, kv = (f"gemma4_heads_{f}" for f in ("QUERIES", "QUERIES_KEYS", "KEYS"))
    assert harness.launches == [both, one, kv] * 3


@pytest.mark.parametrize(
    "case",
    [
        Case(1, 1, 8, 1, 256, SLIDING, 3000),  # E2B
        Case(1, 2, 16, 2, 512, FULL, 3000),  # 26B-A4B
    ],
)
def test_real_heads_far_into_a_text(cpu: Cpu, case: Case) -> None:
    with using("heads", make=cpu().metal_kernel):
        case.check()


@pytest.mark.parametrize(("check_for", "schedule"), CHECKS)
def test_memory_and_order(cpu: Cpu, check_for: str, schedule: str) -> None:
    harness = cpu(check=check_for, schedule=schedule)
    with using("heads", make=harness.metal_kernel):
        Case().check()
        Case(dim=136).check()


MUTATIONS = {
    "a pair too many": (
        "address",
        ("pair < D / 2", "pair <= D / 2"),
        "heap-buffer-overflow",
    ),
    "values that land on keys": (
        "races",
        ("rows + number % rows) * D;\n}\n#endif\n\n", "0) * D;\n}\n#endif\n\n"),
        "data race|never written",
    ),
    "a head that is left out": (
        "races",
        ("turns = head < heads;", "turns = head < heads; if (!turns) return;"),
        "never written",
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
        Case().check()


WRONG = {
    "a turn the other way": (
        "rotate",
        "first * c - second * s",
        "first * c + second * s",
    ),
    "the norm of some elements": ("rotate", "D / 128 * 128 + lane", "D + lane"),
    "another row's angle": ("heads", "int(number % rows)", "int(number % rows) + 1"),
    "values that turn": ("heads", "turns = head < heads;", ""),
    "no eps": ("heads", "numbers[0]", "0.0f"),
}


@pytest.mark.parametrize("mutation", WRONG)
def test_a_wrong_result_is_noticed(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch, mutation: str
) -> None:
    with (
        mutated(monkeypatch, *WRONG[mutation]),
        using("heads", make=cpu().metal_kernel),
        pytest.raises(AssertionError),
    ):
        Case(scale=1e-3, dtype=mx.float32).check()


def test_gradients_are_the_plain_ones(cpu: Cpu) -> None:
    case = Case(1, 3, 4, 2, 16, offset=4, dtype=mx.float32)
    arrays = *case.raw(), *case.weights()
    factors = [random(i, (1, n, 3, 16), mx.float32) for i, n in ((6, 4), (7, 4))]

    def loss(*arrays: mx.array) -> mx.array:
        q, k, v, q_weight, k_weight = arrays
        turn = EPS, case.rotation
        queries, kv = rotate_heads(q, k, v, q_weight, k_weight, *turn)
        again = rotate_queries(q, q_weight, *turn)
        sums = [
            (x * f).sum() for x, f in zip((queries, joined(kv)), factors, strict=True)
        ]
        return sums[0] + sums[1] + (again**3).sum()

    gradients = mx.grad(loss, argnums=tuple(range(5)))
    with using("heads", make=cpu().metal_kernel):
        ours = gradients(*arrays)
    for a, b in zip(ours, gradients(*arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_what_does_not_fit_falls_back(cpu: Cpu) -> None:
    harness = cpu()
    with using("heads", make=harness.metal_kernel):
        Case(rows=17, dtype=mx.float32).check()
        Case(dim=4, dtype=mx.float32).check()
        Case(dim=20, dtype=mx.float32).check()
    assert harness.launches == []
