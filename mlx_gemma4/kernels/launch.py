"""Which kernels run, and how they are launched.

`GEMMA4_KERNELS` is `auto` (also when unset), `on`, `off`, or names with commas between
them. `auto` is off until `settle` says which uses of kernels were found to be right and
not slower on this machine (see choice.py). `on` leaves out only what can gain nothing
by reckoning, which nobody measured.

A use of a kernel is its name and, behind a space, the case it is for: the sizes that
its speed depends on.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from importlib.resources import files
from typing import Any

import mlx.core as mx

from ..errors import ChatError

NAMES = (
    *("norms", "heads", "router", "experts", "gate"),
    *("project", "geglu", "dense", "attention"),
)
AUTO = "auto"
SAVE_NOTHING = ("dense",)  # launches: one takes the place of one
REFUSED_BY_FAST = 512  # inputs of a map: MLX's fast product takes their multiples
DTYPES = (mx.float32, mx.float16, mx.bfloat16)
# Rows up to which kernels are used: decoding, and checking a few drafted tokens.
MOST_ROWS = 16

Launcher = Callable[..., list[mx.array]]
Function = Callable[..., list[mx.array]]
Output = tuple[Sequence[int], mx.Dtype]
Pair = tuple[mx.array, mx.array]
Pairs = Callable[[list[mx.array], list[mx.array]], list[Pair]]


@dataclass(frozen=True)
class Switch:
    """What is on, and what makes it from source.

    on: kernels by name, and single uses of others.
    reckoned: but for the uses that can gain nothing.
    """

    on: frozenset[str]
    make: Callable[..., Launcher]
    reckoned: bool = False


@dataclass(frozen=True)
class Trial:
    """A kernel where a model would run it, kept to be tried.

    use: what was asked for before it.
    pairs: of the results of both, in this order, what has to be equal.
    """

    use: str
    kernel: Function
    twin: Function
    arrays: tuple[mx.array, ...]
    pairs: Pairs


@dataclass
class Trials:
    """What `collecting` finds, and the use that was asked for last."""

    asked: str = ""
    found: list[Trial] = field(default_factory=list)


_chosen: list[Switch] = []  # by `using`, the innermost last
_collected: list[Trials] = []  # by `collecting`, the innermost last
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


def setting() -> str:
    """GEMMA4_KERNELS, or what stands for it."""
    return os.environ.get("GEMMA4_KERNELS", "").strip() or AUTO


@cache
def _from_environment() -> Switch:
    names, make = parse(setting()), _metal()
    on = names if mx.metal.is_available() else frozenset[str]()
    return Switch(on, make, reckoned=setting() == "on")


def _metal() -> Callable[..., Launcher]:
    return mx.fast.metal_kernel  # type: ignore[return-value]


def _switch() -> Switch:
    return (_chosen or _settled or [_from_environment()])[-1]


def in_use() -> object:
    """Equal where the same kernels are used."""
    return _switch()


def is_auto() -> bool:
    """Whether the choice of kernels is left to a check, and there is Metal."""
    return setting() == AUTO and mx.metal.is_available()


def settle(*uses: str) -> None:
    """Use kernels for `uses` alone from now on, wherever `using` says nothing else."""
    _settled[:] = [Switch(frozenset(uses), _metal())]


def any_on() -> bool:
    """Whether any kernel is on."""
    return bool(_switch().on)


def enabled(name: str, case: str = "") -> bool:
    """Whether kernel `name` is to be used for arrays of the sizes that `case` tells;
    without a case, whether it may be for some."""
    switch, use = _switch(), f"{name} {case}".strip()
    if _collected:
        _collected[-1].asked = use
    on = name in switch.on or use in switch.on
    on = on or not case and any(each.startswith(f"{name} ") for each in switch.on)
    return on and not (switch.reckoned and _gains_nothing(name, case))


def _gains_nothing(name: str, case: str) -> bool:
    """Where MLX's own product is its fast one, and no launch is saved."""
    inputs = case.partition("x")[0]
    return (
        name in SAVE_NOTHING
        and inputs.isdecimal()
        and int(inputs) % REFUSED_BY_FAST == 0
    )


@contextmanager
def using(*uses: str, make: Callable[..., Launcher] | None = None) -> Iterator[None]:
    """Use exactly the kernels of these names, and those of single `uses`, meanwhile,
    whatever the environment says.

    make: in place of `mx.fast.metal_kernel`, for tests without Metal.
    """
    parse(",".join(use.partition(" ")[0] for use in uses))
    _chosen.append(Switch(frozenset(uses), make or _metal()))
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


def differentiable(kernel: Function, twin: Function) -> Function:
    """`kernel` with the gradient of `twin`; both take and return floating arrays."""
    if _collected:
        return partial(collected, kernel, twin)
    if _undifferentiated:
        return kernel
    function: Any = mx.custom_function(kernel)

    @function.vjp
    def _(primals: Any, cotangents: Any, outputs: Any) -> Any:
        return mx.vjp(twin, list(primals), list(cotangents))[1]

    return function


def in_order(ours: list[mx.array], theirs: list[mx.array]) -> list[Pair]:
    return list(zip(ours, theirs, strict=True))


@contextmanager
def collecting() -> Iterator[Trials]:
    """Meanwhile run the twin wherever a kernel would run, and keep both as a trial."""
    _collected.append(Trials())
    try:
        yield _collected[-1]
    finally:
        _collected.pop()


def is_collecting() -> bool:
    return bool(_collected)


def collected(
    kernel: Function, twin: Function, *arrays: mx.array, pairs: Pairs = in_order
) -> list[mx.array]:
    """What `twin` makes of `arrays`. For `collecting`, and only then."""
    those = _collected[-1]
    those.found.append(Trial(those.asked, kernel, twin, arrays, pairs))
    return twin(*arrays)
