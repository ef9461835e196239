"""Residual, the norms before it, the layer's scalar, and the norms that come next.

A layer ends each of its parts with `h + norm(x)` and begins the next with norms of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import mlx.core as mx

from .launch import DTYPES, MOST_ROWS, constants, differentiable, enabled, launch

MOST_THREADS = 768  # of a row, of four elements each
MOST_PACKS = 4  # of four elements that a thread keeps in registers
MOST_NORMS = 3


@dataclass(frozen=True)
class Norm:
    """A norm's weight [width], to be multiplied by `factor`."""

    weight: mx.array
    factor: float = 1.0


def add_norms(
    h: mx.array,
    parts: Sequence[mx.array],
    weights: Sequence[mx.array],
    eps: float,
    scalar: mx.array | None = None,
    norms: Sequence[Norm] = (),
) -> tuple[mx.array, list[mx.array]]:
    """`h + norm(y)`, times `scalar` if given, and the `norms` of the result.

    h: [..., width].
    parts: one or two arrays like `h`. One is y; of two, each is normed and y their sum.
    weights: of the norms of two parts, if there are two, then of the norm of y.
    scalar: [1].
    """
    arrays = [h, *parts, *weights, *(norm.weight for norm in norms)]
    arrays += [] if scalar is None else [scalar]
    if not enabled("norms") or not _fits(arrays, len(norms)):
        return add_norms_plain(h, parts, weights, eps, scalar, norms)
    form = _Form(len(parts), scalar is not None, tuple(n.factor for n in norms), eps)
    out, *normed = differentiable(form.kernel, form.twin)(*arrays)
    return out, normed


def add_norms_plain(
    h: mx.array,
    parts: Sequence[mx.array],
    weights: Sequence[mx.array],
    eps: float,
    scalar: mx.array | None,
    norms: Sequence[Norm],
) -> tuple[mx.array, list[mx.array]]:
    y = parts[0]
    if len(parts) == 2:
        y = mx.fast.rms_norm(y, weights[0], eps)
        y = y + mx.fast.rms_norm(parts[1], weights[1], eps)
    h = h + mx.fast.rms_norm(y, weights[-1], eps)
    if scalar is not None:
        h = h * scalar
    scaled = [n.weight if n.factor == 1 else n.weight * n.factor for n in norms]
    return h, [mx.fast.rms_norm(h, weight, eps) for weight in scaled]


@cache
def _threads(width: int) -> int:
    """As many as may be that share a row evenly; 0 where the kernel is not for it.

    Whole simdgroups, or part of one where there are no more elements.
    """
    if width % 4 or width < 8:
        return 0
    packs = width // 4
    if packs <= 32:
        return packs
    counts = range(MOST_THREADS, 0, -32)
    threads = next((n for n in counts if packs % n == 0), 0)
    return threads if packs <= MOST_PACKS * threads else 0


def _fits(arrays: Sequence[mx.array], norms: int) -> bool:
    h = arrays[0]
    return (
        h.dtype in DTYPES
        and all(x.dtype == h.dtype for x in arrays)
        and _threads(h.shape[-1]) > 0
        and 0 < h.size // h.shape[-1] <= MOST_ROWS
        and norms <= MOST_NORMS
    )


@dataclass(frozen=True)
class _Form:
    """One use of the kernel, on its arrays in a row, in the order of `add_norms`."""

    parts: int
    scaled: bool
    factors: tuple[float, ...]
    eps: float

    def kernel(self, *arrays: mx.array) -> list[mx.array]:
        two = self.parts == 2
        names = ["h", "x", *(["x2", "post_x", "post_x2"] if two else []), "post"]
        names += [f"norm{i + 1}" for i in range(len(self.factors))]
        names += ["scalar"] if self.scaled else []
        defines = ["TWO"] * two + ["SCALED"] * self.scaled
        defines += [f"NORMS={len(self.factors)}"] if self.factors else []
        width = arrays[0].shape[-1]
        rows, threads = arrays[0].size // width, _threads(width)
        inputs = dict(zip(names, arrays, strict=True))
        results = ["out", *(f"normed{i + 1}" for i in range(len(self.factors)))]
        return launch(
            "norms",
            inputs | {"numbers": constants(self.eps, *self.factors)},
            dict.fromkeys(results, (arrays[0].shape, arrays[0].dtype)),
            grid=(rows * threads, 1, 1),
            threadgroup=(threads, 1, 1),
            template=[
                ("T", arrays[0].dtype),
                ("THREADS", threads),
                ("COUNT", width // (4 * threads)),
            ],
            defines=" ".join(defines),
        )

    def twin(self, *arrays: mx.array) -> list[mx.array]:
        rest = iter(arrays)
        h, *parts = (next(rest) for _ in range(1 + self.parts))
        weights = [next(rest) for _ in range(2 * self.parts - 1)]
        norms = [Norm(next(rest), factor) for factor in self.factors]
        scalar = next(rest) if self.scaled else None
        out, normed = add_norms_plain(h, parts, weights, self.eps, scalar, norms)
        return [out, *normed]
