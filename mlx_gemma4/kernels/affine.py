"""Maps on quantised weights, and what every kernel that multiplies by them needs.

A simdgroup computes four outputs, or two of a small map so that there are simdgroups
enough to keep a GPU busy, for one row or two.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from .launch import DTYPES, MOST_ROWS, differentiable, enabled, launch

BITS, GROUP_SIZES = (4, 8), (32, 64)
BUSY = 512  # simdgroups
MOST_TOKENS = 2  # rows for one simdgroup
SIMDGROUPS = 2  # in a threadgroup
HEADER = ("affine",)
KINDS = (nn.QuantizedLinear, nn.QuantizedEmbedding)  # not what is made from them
TABLES = (nn.Embedding, nn.QuantizedEmbedding)


@dataclass(frozen=True)
class Affine:
    """A map on quantised weights uint32 [outputs, words], or one for each expert."""

    weight: mx.array
    scales: mx.array
    biases: mx.array
    group_size: int
    bits: int

    @property
    def inputs(self) -> int:
        return self.scales.shape[-1] * self.group_size

    @property
    def outputs(self) -> int:
        return self.weight.shape[-2]

    def multiply(self, x: mx.array) -> mx.array:
        """Rows `x` [..., inputs] to [..., outputs]."""
        return mx.quantized_matmul(
            x, self.weight, self.scales, self.biases, True, self.group_size, self.bits
        )


Plain = Callable[[Sequence[mx.array], Sequence[Affine]], list[mx.array]]


def affine_of(module: nn.Module) -> Affine | None:
    """What kernels can take of a linear map or a tied table; None for any other."""
    if not isinstance(module, KINDS) or type(module) not in KINDS:
        return None
    if module.mode != "affine" or module.biases is None or "bias" in module:
        return None
    parts = module.weight, module.scales, module.biases
    return Affine(*parts, module.group_size, module.bits)


def fit(x: mx.array, maps: Sequence[Affine]) -> bool:
    """Whether kernels take rows like `x` [..., inputs] and these maps, all at once."""
    kinds = {(each.inputs, each.bits, each.group_size) for each in maps}
    return (
        x.dtype in DTYPES
        and 0 < x.size // x.shape[-1] <= MOST_ROWS
        and len(kinds) == 1
        and maps[0].bits in BITS
        and maps[0].group_size in GROUP_SIZES
        # Of fewer than 8 elements, Metal has a buffer in another address space.
        and all(each.scales.size >= 8 for each in maps)
        and all(each.scales.dtype == each.biases.dtype == x.dtype for each in maps)
    )


def taken(name: str, modules: Sequence[nn.Module], x: mx.array) -> list[Affine] | None:
    """`modules` for the kernel `name` with rows `x` [..., inputs]; None where it is off
    for their sizes or does not take them."""
    if x.size > MOST_ROWS * x.shape[-1]:  # a prompt: at once
        return None
    maps = [each for each in map(affine_of, modules) if each]
    if len(maps) < len(modules) or not fit(x, maps):
        return None
    return maps if enabled(name, case(maps)) else None


def case(maps: Sequence[Affine]) -> str:
    """As `enabled` has it: the inputs of `maps`, and the outputs of all together."""
    return f"{maps[0].inputs}x{sum(each.outputs for each in maps)}"


def products(
    name: str,
    maps: Sequence[Affine],
    rows: Sequence[mx.array],
    outputs: Sequence[int],
    plain: Plain,
) -> list[mx.array]:
    """What the kernel `name` makes of `rows` and `maps`, with the gradient of `plain`.

    rows: x [..., inputs], and behind it a factor of the result if there is one.
    outputs: of each result [..., outputs].
    """
    count = len(rows)

    def kernel(*arrays: mx.array) -> list[mx.array]:
        return _launch(name, replaced(maps, arrays[count:]), arrays[:count], outputs)

    def twin(*arrays: mx.array) -> list[mx.array]:
        return plain(arrays[:count], replaced(maps, arrays[count:]))

    return differentiable(kernel, twin)(*rows, *parts(maps))


def parts(maps: Sequence[Affine]) -> list[mx.array]:
    """What gradients may pass through."""
    return [part for each in maps for part in (each.scales, each.biases)]


def replaced(maps: Sequence[Affine], parts: Sequence[mx.array]) -> list[Affine]:
    """`maps` with other `parts`."""
    pairs = zip(maps, parts[::2], parts[1::2], strict=True)
    return [replace(each, scales=s, biases=b) for each, s, b in pairs]


def _launch(
    name: str,
    maps: Sequence[Affine],
    rows: Sequence[mx.array],
    outputs: Sequence[int],
) -> list[mx.array]:
    leading = rows[0].shape[:-1]
    count = rows[0].size // rows[0].shape[-1]
    # A row needs no other shape, which the host would have to make.
    flat = rows if count == 1 else [x.reshape(count, -1) for x in rows]
    inputs: dict[str, mx.array] = dict(zip(("x", "factor"), flat, strict=False))
    for number, each in enumerate(maps, 1):
        inputs |= named(each, number)
    tokens, at_once = min(count, MOST_TOKENS), rows_at_once(sum(outputs))
    blocks = sum(-(-size // at_once) for size in outputs)
    return launch(
        name,
        inputs,
        {f"out{i}": ((*leading, n), rows[0].dtype) for i, n in enumerate(outputs, 1)},
        grid=(32 * -(-count // tokens), blocks, 1),
        threadgroup=(32, SIMDGROUPS, 1),
        template=template(rows[0].dtype, maps[0], at_once) + [("TOKENS", tokens)],
        defines=f"MAPS={len(outputs)}" if len(outputs) > 1 else "",
        header=HEADER,
    )


def named(maps: Affine, number: int | str = "") -> dict[str, mx.array]:
    """Weights as kernels call them."""
    weights = {"weight": maps.weight, "scales": maps.scales, "biases": maps.biases}
    return {f"{name}{number}": array for name, array in weights.items()}


def template(dtype: mx.Dtype, maps: Affine, at_once: int) -> list[tuple[str, Any]]:
    sizes = {"BITS": maps.bits, "GROUP": maps.group_size, "INPUTS": maps.inputs}
    return [("T", dtype), *sizes.items(), ("ROWS", at_once)]


def rows_at_once(outputs: int) -> int:
    """How many of `outputs` one simdgroup computes."""
    return 4 if outputs >= 4 * BUSY else 2
