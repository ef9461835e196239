"""Which kernels run, and how they are launched.

`GEMMA4_KERNELS` is `off` (also when unset), `on`, `auto`, or names with commas between
them. Kernels stay off by default: no gain was measured on an Apple GPU yet. `auto` is
off too until `settle` says which kernels are faster on this machine (see choice.py).
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

import mlx.core as mx

from ..errors import ChatError

NAMES = (
    *("norms", "heads", "router", "experts", "gate"),
    *("project", "geglu", "dense", "attention"),
)
AUTO = "auto"
DTYPES = (mx.float32, mx.float16, mx.bfloat16)
# Rows up to which kernels are used: decoding, and checking a few drafted tokens.
MOST_ROWS = 16

Launcher = Callable[..., list[mx.array]]
Output = tuple[Sequence[int], mx.Dtype]


@dataclass(frozen=True)
class Switch:
    """The kernels that are on, and what makes them from source."""

    names: frozenset[str]
    make: Callable[..., Launcher]


_chosen: list[Switch] = []  # by `using`, the innermost last
_differences: list[list[mx.array]] = []  # by `comparing`, the innermost last
_undifferentiated: list[bool] = []  # by `without_gradients`
_settled: list[Switch] = []  # what `auto` stands for, once that is known


def parse(setting: str) -> frozenset[str]:
    """The names in a value of GEMMA4_KERNELS. Raises ChatError for unknown ones."""
    if setting.strip() in ("", "off", AUTO):
        return frozenset()
    if setting.strip() == "on":
        return frozenset(NAMES)
    names = frozenset(name.strip() for name in setting.split(","))
    if unknown := sorted(names - set(NAMES)):
        raise ChatError(
            f"GEMMA4_KERNELS: no kernel is called {unknown[0]!r}. "
            f"Use off, on, auto, or some of: {', '.join(NAMES)}."
        )
    return names


@cache
def _from_environment() -> Switch:
    names = parse(os.environ.get("GEMMA4_KERNELS", "off"))
    make: Any = mx.fast.metal_kernel
    return Switch(names if mx.metal.is_available() else frozenset(), make)


def _switch() -> Switch:
    return (_chosen or _settled or [_from_environment()])[-1]


def in_use() -> object:
    """The same object as long as the same kernels are used."""
    return _switch()


def is_auto() -> bool:
    """Whether GEMMA4_KERNELS leaves the choice to a measurement, and there is Metal."""
    setting = os.environ.get("GEMMA4_KERNELS", "off")
    return setting.strip() == AUTO and mx.metal.is_available()


def settle(*names: str) -> None:
    """Use the kernels `names` from now on, wherever `using` says nothing else."""
    metal: Any = mx.fast.metal_kernel
    _settled[:] = [Switch(parse(",".join(names)), metal)]


def enabled(name: str, case: str = "") -> bool:
    """Whether kernel `name` is to be used for arrays of the sizes that `case` tells."""
    return name in _switch().names


@contextmanager
def using(*names: str, make: Callable[..., Launcher] | None = None) -> Iterator[None]:
    """Use exactly the kernels `names` meanwhile, whatever the environment says.

    make: in place of `mx.fast.metal_kernel`, for tests without Metal.
    """
    metal: Any = mx.fast.metal_kernel
    _chosen.append(Switch(parse(",".join(names)), make or metal))
    try:
        yield
    finally:
        _chosen.pop()


@cache
def source(name: str) -> str:
    """The Metal text of a file of this package."""
    return (files("mlx_gemma4.kernels") / f"{name}.metal").read_text()


@lru_cache(maxsize=256)
def constants(*values: float) -> mx.array:
    """Numbers for a kernel, made once: float32, in Metal's constant memory if few."""
    return mx.array(values, mx.float32)


@lru_cache(maxsize=256)
def _kernel(
    make: Callable[..., Launcher],
    name: str,
    defines: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    header: tuple[str, ...],
    strided: bool,
) -> Launcher:
    words = defines.split()
    before = "".join(f"#define {word.replace('=', ' ')}\n" for word in words)
    full_name = "_".join(["gemma4", name, *words]).replace("=", "")
    return make(
        full_name,
        inputs,
        outputs,
        source(name),
        header=before + "".join(source(part) for part in header),
        ensure_row_contiguous=not strided,
    )


def launch(
    name: str,
    inputs: Mapping[str, mx.array],
    outputs: Mapping[str, Output],
    *,
    grid: tuple[int, int, int],
    threadgroup: tuple[int, int, int],
    template: Sequence[tuple[str, Any]],
    defines: str = "",
    header: tuple[str, ...] = ("reduce",),
    strided: bool = False,
) -> list[mx.array]:
    """Run NAME.metal on `inputs`; returns `outputs`, given as shape and dtype.

    grid, threadgroup: in threads.
    template: types and numbers the kernel is compiled for.
    defines: `WORD` or `WORD=value`, with spaces between, for its preprocessor.
    header: the files of functions that it uses.
    strided: the kernel reads views by their strides; otherwise MLX copies them first.
    """
    names = tuple(inputs), tuple(outputs)
    kernel = _kernel(_switch().make, name, defines, *names, header, strided)
    return kernel(
        inputs=list(inputs.values()),
        output_shapes=[tuple(shape) for shape, _ in outputs.values()],
        output_dtypes=[dtype for _, dtype in outputs.values()],
        grid=grid,
        threadgroup=threadgroup,
        template=list(template),
    )


@contextmanager
def without_gradients() -> Iterator[None]:
    """Meanwhile nobody asks kernels for gradients: calling them is cheaper."""
    _undifferentiated.append(True)
    try:
        yield
    finally:
        _undifferentiated.pop()


def differentiable(
    kernel: Callable[..., list[mx.array]], twin: Callable[..., list[mx.array]]
) -> Callable[..., list[mx.array]]:
    """`kernel` with the gradient of `twin`; both take and return floating arrays."""
    if _undifferentiated and not is_comparing():
        return kernel
    function: Any = mx.custom_function(kernel)

    @function.vjp
    def _(primals: Any, cotangents: Any, outputs: Any) -> Any:
        return mx.vjp(twin, list(primals), list(cotangents))[1]

    def compared(*arrays: mx.array) -> list[mx.array]:
        outputs = function(*arrays)
        note_differences(outputs, twin(*arrays))
        return outputs

    return compared if is_comparing() else function


@contextmanager
def comparing() -> Iterator[list[mx.array]]:
    """Meanwhile compute the twin beside every kernel; collects how far they differ.

    One number for each result: the largest difference, as a share of the twin's largest
    value. NaN where a value is not finite.
    """
    _differences.append([])
    try:
        yield _differences[-1]
    finally:
        _differences.pop()


def is_comparing() -> bool:
    return bool(_differences)


def note_differences(ours: Sequence[mx.array], twins: Sequence[mx.array]) -> None:
    """For `comparing`, and only then."""
    pairs = zip(ours, twins, strict=True)
    _differences[-1].extend(_difference(a, b) for a, b in pairs)


def _difference(ours: mx.array, twin: mx.array) -> mx.array:
    ours, twin = ours.astype(mx.float32), twin.astype(mx.float32)
    far = mx.abs(ours - twin).max() / mx.maximum(mx.abs(twin).max(), 1e-30)
    return mx.where(mx.isfinite(ours).all(), far, mx.nan)
