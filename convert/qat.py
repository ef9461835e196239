"""Weights that Google trained for a grid, kept on that grid.

`…-qat-q4_0-unquantized` holds plain bfloat16 weights trained for Q4_0: 32 to a group,
and every weight a whole multiple, -8 to 7, of the group's step. Nothing in the files
says so: each group is measured, and imported exactly where it lies on a grid. The
layouts that store codes are read in `qat_layouts`.

A step d and a code q in 0..15 give (q - 8) d, which MLX spells scale d, bias -8 d:
exact in float32 for a step of any 16-bit type. `mx.quantize` would put a new grid
between the group's extremes instead, and lose what the training gained.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from mlx_gemma4.checkpoint.packing import Packing

from . import compressed, mobile
from .fit import Codes, best_fit, in_parts, pack, round_to, values
from .qat_layouts import (
    COMPRESSED,
    MOBILE,
    PACKED,
    Q4_0,
    ROUNDED,
    decode,
    join,
    recognise,
    rounds,
    unknown_keys,
)

__all__ = [
    "COMPRESSED",
    "MOBILE",
    "PACKED",
    "Q4_0",
    "ROUNDED",
    "Share",
    "decode",
    "encode",
    "grid_share",
    "join",
    "quantize_q4_0",
    "recognise",
    "rounds",
    "unknown_keys",
]

GROUP = 32  # weights that share a step in Q4_0
LOW, HIGH = -8, 7
LOOK = 7  # every seventh weight of a group is looked at before all are
ROUGHLY = 2**-5  # of a weight; more than rounding it and the step can move it


@dataclass(frozen=True)
class Share:
    """How many of `groups` lie on a grid.

    exact: every weight is reproduced bit by bit (zeros without their sign).
    near: some step reproduces every weight, but none that the source's type can hold;
        the nearest is taken.
    """

    groups: int = 0
    exact: int = 0
    near: int = 0

    def __add__(self, other: "Share") -> "Share":
        return Share(
            self.groups + other.groups,
            self.exact + other.exact,
            self.near + other.near,
        )

    @property
    def on_grid(self) -> float:
        """Share of exact and near groups, 0 to 1."""
        return (self.exact + self.near) / self.groups if self.groups else 0.0


def grid_share(rows: mx.array) -> Share:
    """How much of `rows`, [..., inputs] of finite floats, lies on a Q4_0 grid."""
    return _search(_groups(rows), rows.dtype, rows.dtype)[2]


@dataclass(frozen=True)
class Imported:
    """A weight on its trained grid, and how many of its groups lie there exactly."""

    codes: Codes
    exact: int
    groups: int


def encode(
    rows: Mapping[str, mx.array], packing: Packing, grid: str, dtype: mx.Dtype
) -> Imported:
    """Rows of a weight, quantised as they were trained.

    rows: of each tensor that it is stored in, by what the tensor is of it.
    grid: the layout they are stored in. dtype: of scales and biases.
    """
    if grid == Q4_0:
        codes, share = quantize_q4_0(rows["weight"], dtype)
        return Imported(codes, share.exact, share.groups)
    if grid == COMPRESSED:
        codes = compressed.imported(rows["weight_packed"], rows["weight_scale"], dtype)
    else:
        codes = mobile.imported(rows["weight"], rows["weight_scale"], packing, dtype)
    return Imported(codes, codes.scales.size, codes.scales.size)


def quantize_q4_0(rows: mx.array, dtype: mx.Dtype | None = None) -> tuple[Codes, Share]:
    """`rows`, [..., inputs] of finite floats, on the grid they were trained on.

    Groups off any grid get the affine grid that fits them best. The result is MLX's
    affine packing, 4 bits in groups of 32.

    dtype: of scales and biases; None is that of `rows`.
    """
    dtype = dtype or rows.dtype
    groups = _groups(rows)
    steps, codes, share = _search(groups, rows.dtype, dtype)
    found = ~np.isnan(steps)
    scales, biases = np.where(found, steps, 0), np.where(found, steps, 0) * LOW
    codes = (codes - LOW).astype(np.uint8)
    if not found.all():
        codes[~found], scales[~found], biases[~found] = best_fit(
            groups[~found], 4, dtype
        )
    shape = (*rows.shape[:-1], rows.shape[-1] // GROUP)
    return pack(codes, scales, biases, 4, shape, dtype), share


def _groups(rows: mx.array) -> np.ndarray:
    return values(rows, (-1, GROUP))


def _search(
    groups: np.ndarray, dtype: mx.Dtype, step_dtype: mx.Dtype
) -> tuple[np.ndarray, np.ndarray, Share]:
    """Steps [G] (NaN: none found), codes [G, 32] from -8 to 7, and the count."""
    steps = np.full(len(groups), np.nan, np.float32)
    codes = np.zeros(groups.shape, np.int8)

    def work(part: slice) -> int:
        search = _Search(groups[part], dtype, step_dtype)
        return search.fill(steps[part], codes[part])

    exact = sum(in_parts(work, len(groups)))
    found = len(groups) - int(np.isnan(steps).sum())
    return steps, codes, Share(len(groups), exact, found - exact)


@dataclass(frozen=True)
class _Search:
    """The steps of some groups [G, 32] of numbers of type `dtype`."""

    groups: np.ndarray
    dtype: mx.Dtype
    step_dtype: mx.Dtype

    def fill(self, steps: np.ndarray, codes: np.ndarray) -> int:
        """Fill in the steps and codes that are found. Returns how many fit exactly.

        The largest weight of a group has the code -8 in Q4_0; training may have left
        it any smaller code, so all are tried, and an exact match beats a near one.
        """
        groups = self.groups
        index = np.abs(groups).argmax(-1)[:, None]
        extremes = np.take_along_axis(groups, index, -1)  # [G, 1]
        step = round_to(extremes / LOW, self.step_dtype)
        code = _codes(groups, step)
        exact = self._is_exact(groups, step, code)
        steps[exact], codes[exact] = step[exact, 0], code[exact]
        count, left = int(exact.sum()), np.flatnonzero(~exact)
        for largest in range(-LOW, 0, -1):
            likely = left[_look(groups[left, ::LOOK], extremes[left] / -largest)]
            if not len(likely):
                continue
            tried = self._try(groups[likely], extremes[likely] / -largest)
            step, code, exact, near = tried
            keep = exact | (near & np.isnan(steps[likely]))
            steps[likely[keep]], codes[likely[keep]] = step[keep], code[keep]
            left = np.setdiff1d(left, likely[exact], assume_unique=True)
            count += int(exact.sum())
        return count

    def _is_exact(
        self, groups: np.ndarray, step: np.ndarray, code: np.ndarray
    ) -> np.ndarray:
        """Which groups the codes, -8 to 7, reproduce."""
        again = step * (code - LOW) + step * LOW  # as MLX will compute it
        same = (round_to(again, self.dtype) == groups).all(-1)
        return same & ((code >= LOW) & (code <= HIGH)).all(-1)

    def _try(
        self, groups: np.ndarray, step: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Steps, codes, and which groups they fit exactly or nearly.

        step: [G, 1], as good as one weight can tell it.
        """
        code = _codes(groups, step)
        inside = ((code >= LOW) & (code <= HIGH)).all(-1)
        middle, possible = _middle(groups, np.abs(code), self.dtype)
        step = round_to(np.copysign(middle, step).astype(np.float32), self.step_dtype)
        exact = self._is_exact(groups, step, code)
        return step[:, 0], code, exact, possible & inside


def _codes(groups: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Whole steps nearest to the weights, at most just beyond the grid."""
    code = np.rint(groups / np.where(step == 0, 1, step))
    return np.clip(code, LOW - 1, HIGH + 1, out=code)


def _look(some: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Whether some weights of each group are roughly whole steps.

    Quick, and rarely true by chance.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.abs(some - np.rint(some / steps) * steps)
        return (off <= ROUGHLY * np.abs(some)).all(-1) | (steps[:, 0] == 0)


def _middle(
    groups: np.ndarray, counts: np.ndarray, dtype: mx.Dtype
) -> tuple[np.ndarray, np.ndarray]:
    """The middle [G, 1] of all steps that round to the same weights, and if any does.

    If a number of type `dtype` is such a step, so is the one next to the middle.
    """
    sizes, half = np.abs(groups).astype(np.float64), _spacing(groups, dtype) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.where(counts > 0, (sizes - half) / counts, 0).max(-1, keepdims=True)
        high = np.where(counts > 0, (sizes + half) / counts, np.inf)
    high = high.min(-1, keepdims=True)
    # Without any count every weight must be zero, and the step is.
    middle = np.where(np.isfinite(high), (low + high) / 2, 0)
    possible = (low <= high) & ((counts > 0) | (sizes == 0)).all(-1, keepdims=True)
    return middle, possible[:, 0]


def _spacing(groups: np.ndarray, dtype: mx.Dtype) -> np.ndarray:
    """Distance from each value to the next larger one of its type."""
    info = mx.finfo(dtype)
    mantissa = round(-np.log2(info.eps))
    _, exponent = np.frexp(np.abs(groups))
    lowest = round(np.log2(info.smallest_normal)) + 1
    return np.ldexp(1.0, np.maximum(exponent, lowest) - 1 - mantissa)
