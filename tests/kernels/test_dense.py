"""Which maps go through kernels; tests/metal says what those compute."""

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlx_gemma4.kernels import dense, gated, gated_pair, project, using
from mlx_gemma4.layers import geglu

NAMES = ("dense", "project", "geglu", "gate")


def refuse(*_: object, **__: object) -> Callable[..., list[mx.array]]:
    raise AssertionError("a kernel was made")


def linear(bits: int = 4, bias: bool = False, mode: str = "affine") -> nn.Module:
    return nn.QuantizedLinear(64, 8, bias, 32, bits, mode)


def rows(count: int, dtype: mx.Dtype = mx.float32) -> mx.array:
    return mx.random.normal((1, count, 64), key=mx.random.key(count)).astype(dtype)


class Doubled(nn.QuantizedLinear):
    """Another map with the same weights."""

    def __call__(self, x: mx.array) -> mx.array:
        return 2 * super().__call__(x)


# What kernels do not take, and why.
OTHERS: dict[str, Callable[[], nn.Module]] = {
    "floats": lambda: nn.Linear(64, 8),
    "a bias": lambda: linear(bias=True),
    "6 bits": lambda: linear(6),
    "groups of 128": lambda: nn.QuantizedLinear(128, 8, False, 128, 4),
    "float4": lambda: linear(mode="mxfp4"),
    "another module": lambda: Doubled(64, 8, False, 32, 4),
    "few scales": lambda: nn.QuantizedLinear(64, 3, False, 32, 4),
}


@pytest.mark.parametrize("why", OTHERS)
def test_other_maps_go_the_plain_way(why: str) -> None:
    other = OTHERS[why]()
    x = mx.ones((1, 2, 128 if why == "groups of 128" else 64))
    with using(*NAMES, make=refuse):
        np.testing.assert_array_equal(dense(other, x), other(x))


def test_together_or_not_at_all() -> None:
    """Maps of unequal packings, and more than three."""
    four, eight, x = linear(), linear(8), rows(2)
    with using(*NAMES, make=refuse):
        for maps in ([four, eight], [four] * 4):
            for each, y in zip(maps, project(maps, x), strict=True):
                np.testing.assert_array_equal(y, each(x))
        np.testing.assert_array_equal(
            gated_pair(four, eight, x), geglu(four(x), eight(x))
        )


def test_other_rows_go_the_plain_way() -> None:
    four = linear()
    with using(*NAMES, make=refuse):
        for x in (rows(17), rows(2, mx.bfloat16)):
            np.testing.assert_array_equal(dense(four, x), four(x))
        x, factor = rows(2), mx.ones((1, 2, 8), mx.float16)
        np.testing.assert_array_equal(gated(four, x, factor), geglu(four(x), factor))


def test_a_tied_table_is_a_map() -> None:
    for table in (nn.Embedding(8, 64), nn.QuantizedEmbedding(8, 64, 32, 4)):
        np.testing.assert_array_equal(
            dense(table, rows(2)), table.as_linear(rows(2)), strict=True
        )


def test_the_sizes_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs and, of all maps together, outputs; not where no kernel could run."""
    asked: list[tuple[str, str]] = []

    def enabled(name: str, case: str = "") -> bool:
        asked.append((name, case))
        return False

    monkeypatch.setattr("mlx_gemma4.kernels.affine.enabled", enabled)
    maps, x = [linear(), linear(), linear()], rows(1)
    dense(maps[0], x)
    project(maps, x)
    gated_pair(maps[0], maps[1], x)
    gated(maps[0], x, mx.ones((1, 1, 8)))
    dense(maps[0], rows(17))
    sizes = {"dense": "64x8", "project": "64x24", "geglu": "64x16", "gate": "64x8"}
    assert asked == list(sizes.items())
