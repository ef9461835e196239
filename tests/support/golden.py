"""Reads the fixtures that tests/reference wrote, and compares with them."""

import json
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from places import FIXTURES

FOLDER = FIXTURES
SEED = 20  # of every fixture's weights
# The largest absolute difference of float32 logits: on a CPU to the reference's, and on
# an Apple GPU to the CPU's. None was measured on a GPU yet.
BAR = 2e-4
BAR_ON_GPU = 5e-3
# What rounding to float32 does to random weights differs much from draw to draw. Where
# float64 tells what is true, we may be as far from it as NEAR, or as TIMES what the
# reference in float32 is.
NEAR = 1e-4
TIMES = 2


@dataclass(frozen=True)
class Reference:
    """The reference's logits [L, vocab] in float32, and in float64 of the same
    weights."""

    rounded: np.ndarray
    exact: np.ndarray

    @property
    def bar(self) -> float:
        return max(NEAR, TIMES * float(np.abs(self.rounded - self.exact).max()))


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def read_json(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())


def check_logits(ours: np.ndarray, reference: np.ndarray) -> None:
    """[L, vocab] within the bar, and the same most likely token everywhere."""
    assert ours.shape == reference.shape
    assert np.abs(ours - reference).max() <= BAR
    np.testing.assert_array_equal(ours.argmax(-1), reference.argmax(-1))


def check_exact(ours: np.ndarray, reference: Reference) -> None:
    """[L, vocab] within the bar of the truth, and the same most likely token wherever
    its lead is larger than that."""
    exact, bar = reference.exact, reference.bar
    assert ours.shape == exact.shape
    assert np.abs(ours - exact).max() <= bar
    second, first = np.sort(exact, -1)[:, -2:].T
    clear = first - second > 2 * bar
    np.testing.assert_array_equal(ours.argmax(-1)[clear], exact.argmax(-1)[clear])


def check_block(ours: mx.array, reference: np.ndarray) -> None:
    """A block's output: relative to its size, float32 rounding only."""
    scale = np.abs(reference).max()
    np.testing.assert_allclose(ours, reference, rtol=0, atol=2e-5 * max(scale, 1.0))
