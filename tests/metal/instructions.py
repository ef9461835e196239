"""What a kernel costs on a stand-in for an Apple GPU.

    python tests/metal/instructions.py > tests/metal/instructions.json

writes the figures that test_instructions.py expects, of one of AMD's GPUs by clang 22.
Of an Apple GPU they tell which of two kernels does more, not how long it takes. MLX's
own kernels (0.32.4), measured so, take 45.2 operations for a word of weights of 4 bits
times a vector, and 39.1 where the vector's length is a multiple of 512.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import mlx.core as mx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

from checks import noted
from clang import Calls, Clang, Compiled, compiler, missing
from generated import Call
from real_cases import CASES, SLOW_CASES

from mlx_gemma4.kernels import using

BLOCK = r"(?:\.LBB(\w+):|; %bb\.\w+:)(?: +; %([\w.]+))?"
INNER = r".*; =>\s*This Inner Loop Header"
MEMBER = r".*; +in Loop: Header=BB(\w+)"
ARITHMETIC = r"\s+v_"
LOAD = r"\s+global_load"
BRANCH = r"\s+s_cbranch"
STACK = r"\s+scratch_"
# Packed weights are the only integers that kernels load many of.
WORDS = r"  %\S+ = load (?:<(\d) x )?i32>?, ptr addrspace\(1\)"


@dataclass(frozen=True)
class Figures:
    """Of one kernel's text, not of a run."""

    arithmetic: int
    loads: int  # from the device's memory
    branches: int
    in_loops: int  # branches within innermost loops, but for each loop's own
    stack: int  # accesses to memory in place of registers
    per_word: float  # arithmetic for a word of packed weights, where most are read


@dataclass
class Block:
    """A stretch of assembly, and the number of the innermost loop it is in, if any."""

    name: str = ""  # in LLVM's language
    loop: str | None = None
    lines: list[str] = field(default_factory=list)

    def count(self, pattern: str) -> int:
        return sum(bool(re.match(pattern, line)) for line in self.lines)


def blocks(assembly: str) -> list[Block]:
    """In order. The compiler's comments say which loop a block is in."""
    found, label, inner = [Block()], "", set[str]()
    for line in assembly.splitlines():
        if begin := re.match(BLOCK, line):
            label = begin[1] or ""
            found.append(Block(begin[2] or ""))
        if re.match(INNER, line):
            found[-1].loop = label
            inner.add(label)
        elif member := re.match(MEMBER, line):
            found[-1].loop = member[1]
        found[-1].lines.append(line)
    for block in found:
        block.loop = block.loop if block.loop in inner else None
    return found


def words(llvm: str) -> dict[str, int]:
    """How many words of packed weights each block reads."""
    found, name = Counter[str](), ""
    for line in llvm.splitlines():
        if begin := re.match(r"([\w.]+):", line):
            name = begin[1]
        elif load := re.match(WORDS, line):
            found[name] += int(load[1] or 1)
    return found


def figures(compiled: Compiled) -> Figures:
    parts, read = blocks(compiled.assembly), words(compiled.llvm)
    loops: dict[str, list[Block]] = {}
    for part in parts:
        if part.loop:
            loops.setdefault(part.loop, []).append(part)

    def count(pattern: str, of: Iterable[Block] = parts) -> int:
        return sum(part.count(pattern) for part in of)

    def taken(of: Iterable[Block]) -> int:
        return sum(read[part.name] for part in of)

    regions = [*loops.values(), *([part] for part in parts if not part.loop)]
    busiest = max(regions, key=taken)
    most = taken(busiest)
    return Figures(
        arithmetic=count(ARITHMETIC),
        loads=count(LOAD),
        branches=count(BRANCH),
        in_loops=sum(count(BRANCH, loop) - 1 for loop in loops.values()),
        stack=count(STACK),
        per_word=round(count(ARITHMETIC, busiest) / most, 1) if most else 0.0,
    )


def title(call: Call) -> str:
    """`gate BITS=4 GROUP=64 ROWS=4, 64 threads`."""
    names = re.search(r"\ntemplate <(.*)>\n\[\[kernel", call.translated.text)
    declared = names[1].split(", ") if names else []
    chosen = zip(declared, call.template, strict=True)
    numbers = [f"{n.split()[1]}={int(v)}" for n, v in chosen if n.startswith("int")]
    name = " ".join([call.name.removeprefix("gemma4_"), *numbers])
    return f"{name}, {prod(call.threadgroup)} threads"


def measured(clang: Clang, name: str) -> dict[str, Figures]:
    """Of kernel `name` in bfloat16, by title."""
    calls = Calls()
    with using(name, make=calls.metal_kernel), noted():
        for cases in (CASES, SLOW_CASES):
            if name in cases:
                cases[name](mx.bfloat16)
    texts = {title(call): text for text, call in calls.found.items()}
    return {each: figures(clang.compile(text)) for each, text in texts.items()}


def main() -> int:
    clang = compiler()
    if clang is None:
        print(missing(), file=sys.stderr)
        return 1
    found = {name: measured(clang, name) for name in CASES}
    print(as_json(found))
    return 0


def as_json(found: dict[str, dict[str, Figures]]) -> str:
    """A line for each variant of a kernel."""
    kernels = []
    for name, variants in found.items():
        lines = [f'  "{each}": {json.dumps(vars(f))}' for each, f in variants.items()]
        kernels.append(f' "{name}": {{\n' + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(kernels) + "\n}"


if __name__ == "__main__":
    sys.exit(main())
