"""A kernel as MLX would give it to Metal's compiler, and one call of it.

MLX itself writes the source under test: its generator needs no Metal while a graph is
being exported.
"""

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.lib.stride_tricks import as_strided
from translate import Translation, translate

Size = tuple[int, int, int]
BITS = {mx.bfloat16: mx.uint16}


def generated_source(
    name: str,
    input_names: Sequence[str],
    output_names: Sequence[str],
    source: str,
    header: str,
    call: dict[str, Any],
) -> str:
    """The complete text of a kernel as MLX gives it to Metal's compiler."""
    kernel: Any = mx.fast.metal_kernel(name, input_names, output_names, source, header)
    inputs = call.pop("inputs")

    def traced(*arrays: mx.array) -> list[mx.array]:
        return kernel(inputs=list(arrays), verbose=True, **call)

    with tempfile.TemporaryDirectory() as folder:
        path, stdout = Path(folder, "printed"), os.dup(1)
        with path.open("wb") as printed:
            os.dup2(printed.fileno(), 1)
            try:
                mx.export_function(str(Path(folder, "graph")), traced, *inputs)
            finally:
                os.dup2(stdout, 1)
                os.close(stdout)
        found = re.search(r"```\n(.*)\n```", path.read_text(), re.S)
    assert found, "MLX printed no source"
    return found[1]


@dataclass
class Call:
    """A kernel's text, its buffers, and how many threads are to run it."""

    name: str
    translated: Translation
    template: list[Any]
    buffers: list[np.ndarray]
    outputs: list[np.ndarray]
    dtypes: Sequence[mx.Dtype]  # of the outputs
    init_value: float | None
    grid: Size
    threadgroup: Size

    def arrays(self, result: bytes) -> list[mx.array]:
        """The outputs, out of their bytes one behind the other."""
        arrays, start = [], 0
        for output, dtype in zip(self.outputs, self.dtypes, strict=True):
            end = start + output.nbytes
            part = np.frombuffer(result[start:end], output.dtype)
            arrays.append(mx.array(part.reshape(output.shape)).view(dtype))
            start = end
        return arrays


@dataclass
class Kernel:
    """One kernel and its translations, by what MLX's text depends on."""

    name: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    source: str
    header: str
    strided: bool
    known: dict[Any, Translation] = field(default_factory=dict)

    def call(
        self,
        inputs: Sequence[Any],
        output_shapes: Sequence[Sequence[int]],
        output_dtypes: Sequence[mx.Dtype],
        grid: Size,
        threadgroup: Size,
        template: Sequence[tuple[str, Any]] = (),
        init_value: float | None = None,
    ) -> Call:
        """With the arguments of what `mx.fast.metal_kernel` returns."""
        arrays = [x if isinstance(x, mx.array) else mx.array(x) for x in inputs]
        arguments = {
            "inputs": arrays,
            "output_shapes": output_shapes,
            "output_dtypes": output_dtypes,
            "grid": grid,
            "threadgroup": threadgroup,
            "template": list(template),
            "init_value": init_value,
        }
        translated = self._translation(arguments)
        given = [_as_laid_out(x) if self.strided else _bits(x) for x in arrays]
        buffers = [_memory(x) for x in translated.buffers(self.input_names, given)]
        outputs = _outputs(output_shapes, output_dtypes, init_value)
        values = [value for _, value in template]
        parts = (translated, values, buffers, outputs, output_dtypes, init_value)
        return Call(self.name, *parts, grid, threadgroup)

    def _translation(self, call: dict[str, Any]) -> Translation:
        # Inputs of less than 8 elements are `constant`, those without axes references.
        inputs = [(x.dtype, x.ndim == 0, x.size < 8) for x in call["inputs"]]
        key = (str(inputs), str(call["output_dtypes"]), str(call["template"]))
        if key not in self.known:
            names = (self.name, self.input_names, self.output_names)
            text = generated_source(*names, self.source, self.header, call)
            self.known[key] = translate(text, self.name, self.source)
        return self.known[key]


@dataclass(eq=False)
class Maker:
    """Makes kernels in place of `mx.fast.metal_kernel`; a child says how they run."""

    launches: list[str] = field(default_factory=list, init=False)

    def metal_kernel(
        self,
        name: str,
        input_names: Sequence[str],
        output_names: Sequence[str],
        source: str,
        header: str = "",
        ensure_row_contiguous: bool = True,
    ) -> Callable[..., list[mx.array]]:
        """As `mx.fast.metal_kernel`; the result runs at once."""
        names = tuple(input_names), tuple(output_names)
        kernel = Kernel(name, *names, source, header, not ensure_row_contiguous)

        def run(**arguments: Any) -> list[mx.array]:
            self.launches.append(name)
            call = kernel.call(**arguments)
            return call.arrays(self.execute(call))

        return run

    def execute(self, call: Call) -> bytes:
        """The outputs' bytes, one behind the other."""
        raise NotImplementedError


def _bits(x: mx.array) -> np.ndarray:
    return np.array(x.view(BITS[x.dtype]) if x.dtype in BITS else x, order="C")


def _as_laid_out(x: mx.array) -> np.ndarray:
    """The bits of `x` with its strides, in memory of its own: NaNs between them."""
    bits = np.asarray(x.view(BITS[x.dtype]) if x.dtype in BITS else x)
    assert bits.size and min(bits.strides, default=0) >= 0
    memory = np.full(_memory(bits).nbytes, 0xFF, np.uint8).view(bits.dtype)
    laid_out = as_strided(memory, bits.shape, bits.strides)
    laid_out[...] = bits
    return laid_out


def _memory(x: np.ndarray) -> np.ndarray:
    """What lies from the first element of `x` to its last."""
    if x.flags.c_contiguous:
        return x
    steps = zip(x.shape, x.strides, strict=True)
    span = sum((n - 1) * stride for n, stride in steps) // x.itemsize + 1
    return as_strided(x, (span,), (x.itemsize,))


def _outputs(
    shapes: Sequence[Sequence[int]], dtypes: Sequence[mx.Dtype], init: float | None
) -> list[np.ndarray]:
    """Buffers for the outputs, NaNs or the largest integers unless initialised."""
    pairs = zip(shapes, dtypes, strict=True)
    made = [_bits(mx.full(tuple(s), init or 0, d)) for s, d in pairs]
    if init is None:
        for each in made:
            each.view(np.uint8).fill(0xFF)
    return made
