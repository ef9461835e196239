"""What a graph consists of, while it is traced and never evaluated."""

import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import mlx.core as mx

VIEWS = {
    "AsStrided",
    "Broadcast",
    "CustomTransforms",
    "Depends",
    "ExpandDims",
    "Flatten",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "StopGradient",
    "Transpose",
    "Unflatten",
    "View",
}

R = TypeVar("R")


def working(found: Counter[str]) -> Counter[str]:
    """Those of the primitives that do something."""
    return Counter({name: n for name, n in found.items() if name not in VIEWS})


class _Traced(Exception):
    """Ends a trace: what the graph is written to is not wanted."""


def traced(function: Callable[[], R]) -> R:
    """What `function` returns while MLX traces it: kernels need no Metal then."""
    found: list[R] = []

    def read() -> list[mx.array]:
        found.append(function())
        raise _Traced

    export: Any = mx.export_function
    try:
        export(lambda entry: None, read)
    except _Traced:
        pass
    return found[0]


def in_graph(outputs: Sequence[mx.array]) -> Counter[str]:
    """The primitives that `outputs` are computed with, by name."""
    text = io.StringIO()
    if outputs:
        mx.export_to_dot(text, *outputs)
    names = re.findall(r'label ="(\w+)"', text.getvalue())
    fused = ("Compiled" if name.startswith("Compiled") else name for name in names)
    return Counter(fused)
