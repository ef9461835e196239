"""Stub: plain."""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn


def dense(linear: nn.Module, x: mx.array) -> mx.array:
    return linear(x)


def project(linears: Sequence[nn.Module], x: mx.array) -> list[mx.array]:
    return [linear(x) for linear in linears]
