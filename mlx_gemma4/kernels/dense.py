"""Linear maps on quantised weights: one, several of the same rows, and a GeGLU pair."""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from ..layers import geglu
from .affine import TABLES, Affine, products, taken

MOST_MAPS = 3


def dense(linear: nn.Module, x: mx.array) -> mx.array:
    """`linear(x)`: x [..., inputs] to [..., outputs].

    linear: or a table, which then stands for the map to scores of its rows.
    """
    if maps := taken("dense", [linear], x):
        return products("dense", maps, [x], [maps[0].outputs], _each)[0]
    return linear.as_linear(x) if isinstance(linear, TABLES) else linear(x)


def project(linears: Sequence[nn.Module], x: mx.array) -> list[mx.array]:
    """Each of up to three maps of the same rows `x` [..., inputs], in one launch."""
    if len(linears) == 1:
        return [dense(linears[0], x)]
    if len(linears) <= MOST_MAPS and (maps := taken("project", linears, x)):
        return products("project", maps, [x], [each.outputs for each in maps], _each)
    return [linear(x) for linear in linears]


def gated_pair(gate: nn.Module, up: nn.Module, x: mx.array) -> mx.array:
    """`gelu(gate(x)) * up(x)`: x [..., inputs] to [..., outputs]."""
    if maps := taken("geglu", [gate, up], x):
        return products("geglu", maps, [x], [maps[0].outputs], _pair)[0]
    return geglu(gate(x), up(x))


def gated(linear: nn.Module, x: mx.array, factor: mx.array) -> mx.array:
    """`gelu(linear(x)) * factor`: x [..., inputs], factor [..., outputs]."""
    if factor.dtype == x.dtype and (maps := taken("gate", [linear], x)):
        return products("gate", maps, [x, factor], [maps[0].outputs], _gate)[0]
    return geglu(linear(x), factor)


def _each(rows: Sequence[mx.array], maps: Sequence[Affine]) -> list[mx.array]:
    return [each.multiply(rows[0]) for each in maps]


def _pair(rows: Sequence[mx.array], maps: Sequence[Affine]) -> list[mx.array]:
    return [geglu(*_each(rows, maps))]


def _gate(rows: Sequence[mx.array], maps: Sequence[Affine]) -> list[mx.array]:
    return [geglu(maps[0].multiply(rows[0]), rows[1])]
