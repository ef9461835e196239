"""From the Metal text that MLX generates to C++ and a function that calls it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

_POSITIONS = (
    "thread_position_in_grid",
    "thread_position_in_threadgroup",
    "threadgroup_position_in_grid",
    "threads_per_threadgroup",
    "threads_per_grid",
    "threadgroups_per_grid",
)
_NUMBERS = (
    "thread_index_in_threadgroup",
    "thread_index_in_simdgroup",
    "simdgroup_index_in_threadgroup",
    "simdgroups_per_threadgroup",
)
ATTRIBUTES = {n: f"uint3(t.{n}.x, t.{n}.y, t.{n}.z)" for n in _POSITIONS}
ATTRIBUTES |= {n: f"t.{n}" for n in _NUMBERS} | {"threads_per_simdgroup": "32u"}
TYPES = {
    mx.float32: "float",
    mx.float16: "float16_t",
    mx.bfloat16: "bfloat16_t",
    mx.int32: "int32_t",
    mx.uint32: "uint32_t",
}
SCALARS = r"float|half|bfloat|bool|u?int|u?short|u?char|u?long|\w+_t"
SPACES = r"\b(?:device|constant|threadgroup|thread)\s+(?:const\s+)?$"
ARRAY = r"\bthreadgroup\s+([\w:]+)\s+(\w+)((?:\s*\[[^\]]*\])*)\s*;"

# A threadgroup array of type `alias`: one for each threadgroup, by number.
ALLOCATE = "{alias}& {name} = metal_cpu::threadgroup_array<{alias}>({number});"


class MetalFault(Exception):
    """A kernel is not Metal, or did what it must not."""


@dataclass
class Translation:
    """A kernel's Metal without its template arguments, and what it is called with."""

    name: str
    text: str
    function: str
    parameters: list[str]

    def with_template(self, values: Sequence[Any]) -> str:
        """A complete C++ file for one choice of template arguments."""
        return (
            f'#include "metal_cpu.h"\n{as_cpp(self.name, self.text)}\n'
            "void run_thread(void** b, const metal_cpu::Thread& t) {\n"
            f"  {self.call(values)};\n}}\n"
        )

    def call(self, values: Sequence[Any]) -> str:
        """The kernel with buffers `b`, for the thread `t`."""
        arguments = [self._argument(i, p) for i, p in enumerate(self.parameters)]
        return f"{self.choice(values)}({', '.join(arguments)})"

    def choice(self, values: Sequence[Any]) -> str:
        """The kernel's function for one choice of template arguments."""
        names = [TYPES[v] if isinstance(v, mx.Dtype) else str(int(v)) for v in values]
        return self.function + (f"<{', '.join(names)}>" if names else "")

    def buffers(
        self, names: Sequence[str], inputs: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """The input buffers in order, with the shapes that the text mentions."""
        wanted, found = " ".join(self.parameters), []
        for name, x in zip(names, inputs, strict=True):
            found.append(x)
            if re.search(rf"\b{name}_shape\b", wanted):
                found.append(np.array(x.shape, np.int32))
            if re.search(rf"\b{name}_strides\b", wanted):
                strides = [s // x.itemsize for s in x.strides]
                found.append(np.array(strides, np.int64))
            if re.search(rf"\b{name}_ndim\b", wanted):
                found.append(np.array(x.ndim, np.int32))
        return found

    @staticmethod
    def _argument(position: int, parameter: str) -> str:
        """The buffers come first, so a parameter's position is its buffer's."""
        attribute = re.search(r"\[\[(\w+)\]\]$", parameter)
        if attribute:
            return ATTRIBUTES[attribute[1]]
        typed = re.sub(r"\[\[.*\]\]|\b(?:device|constant)\b", "", parameter)
        kind, pointer = re.match(r"\s*(.*?)\s*([*&])", typed).groups()  # type: ignore
        cast = f"({kind}*)b[{position}]"
        return cast if pointer == "*" else f"*{cast}"


def translate(text: str, name: str, body: str) -> Translation:
    """Raises MetalFault for what C++ would let pass and Metal does not."""
    text = re.sub(r"\ntemplate \[\[host_name.*?;\n", "\n", text, flags=re.S)
    signature = re.search(r"\[\[kernel\]\] void (\w+)\(\n(.*?)\) \{\n", text, re.S)
    assert signature, "MLX's text has no kernel"
    parameters = [p.strip() for p in signature[2].split(",\n")]
    types = re.findall(r"typename (\w+)", text)
    before, after = text.split(body, 1)
    _check_address_spaces(name, before + body, types)
    text = f'{before}\n#line 1 "{name}.metal"\n{body}\n#line 1 "call"\n{after}'
    return Translation(name, text, signature[1], parameters)


def as_cpp(name: str, text: str, allocate: str = ALLOCATE) -> str:
    """Metal without attributes, its threadgroup arrays allocated."""
    text = re.sub(r"\[\[\w+(?:\(\d+\))?\]\]", "", text)
    return _shared_arrays(name, text, allocate)


def _shared_arrays(name: str, text: str, allocate: str) -> str:
    """Threadgroup declarations become one allocation for each threadgroup."""
    numbers = iter(range(1000))

    def allocation(found: re.Match[str]) -> str:
        kind, variable, sizes = found.groups()
        alias = f"{variable}_shared"
        made = allocate.format(alias=alias, name=variable, number=next(numbers))
        return f"using {alias} = {kind}{sizes}; {made}"

    text = re.sub(ARRAY, allocation, text)
    rest = re.search(r"\bthreadgroup\s+[\w:]+\s+\w+\s*[\[,;=].*", text)
    if rest:
        raise MetalFault(f"{name}: one threadgroup array to a statement: {rest[0]}")
    return text


def _check_address_spaces(name: str, text: str, types: Sequence[str]) -> None:
    """C++ has no address spaces; Metal wants one with every pointer and reference."""
    text = re.sub(r"//.*", "", text)
    pointer = rf"(?<![\w:])(?:const\s+)?(?:{SCALARS}|{'|'.join(types) or 'float'})\d?"
    for found in re.finditer(rf"{pointer}\s*[*&]\s*(?=[\w)>])", text):
        if not re.search(SPACES, text[: found.start()]):
            line = text[text.rfind("\n", 0, found.start()) + 1 :].split("\n")[0]
            raise MetalFault(f"{name}: no address space in: {line.strip()}")
