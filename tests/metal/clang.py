"""The kernels as clang sees them: with Metal's address spaces, for a stand-in GPU.

clang finds what the C++ of metal_cpu.py cannot: a pointer into one address space taken
for another, and a call that is ambiguous between Metal's overloads. For one of AMD's
GPUs it also says how many instructions a kernel takes (see instructions.py). The extra
`clang` brings one, in the package of Zig; otherwise the one on the PATH is used.
"""

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from generated import Call, Maker
from translate import as_cpp

INCLUDE = Path(__file__).parent / "include"
SHARED = "THREADGROUP {alias} {name};"
VECTOR = r"\b(float|half|bfloat|u?int|u?short|uchar)([234])\s*\("
TARGET = "-target amdgcn-amd-amdhsa -mcpu=gfx1100 -nogpulib"
OPTIONS = (
    *f"-x c++ -std=c++20 {TARGET} -ffreestanding -nostdinc".split(),
    *("-isystem", str(INCLUDE)),
)
WARNINGS = (
    *("-Wall", "-Wextra", "-Wdouble-promotion", "-Werror"),
    # MLX declares what a kernel does not use.
    *("-Wno-unused-parameter", "-Wno-unused-variable", "-Wno-unused-const-variable"),
)


class ClangFault(Exception):
    """What clang says about a kernel."""


@dataclass(frozen=True)
class Compiled:
    """LLVM's own language, and what it makes of that; blocks have the same names."""

    llvm: str
    assembly: str


@dataclass(frozen=True)
class Clang:
    command: tuple[str, ...]
    version: int

    def check(self, text: str) -> None:
        """Raises ClangFault for an error or a warning."""
        self._run(text, *WARNINGS, "-fsyntax-only")

    def compile(self, text: str) -> "Compiled":
        """Optimised, for the stand-in GPU, without pairs of operations in one."""
        options = ("-w", "-O3", "-ffp-contract=fast", "-fno-discard-value-names", "-S")
        options += ("-mllvm", "-amdgpu-enable-vopd=0", "-o", "-")
        llvm = self._run(text, *options, "-emit-llvm")
        return Compiled(llvm, self._run(text, *options))

    def _run(self, text: str, *options: str) -> str:
        command = [*self.command, *OPTIONS, *options, "-"]
        done = subprocess.run(command, input=text, capture_output=True, text=True)
        if done.returncode:
            raise ClangFault(done.stderr[:4000])
        return done.stdout


@cache
def compiler() -> Clang | None:
    """One that can compile for the stand-in GPU."""
    package = importlib.util.find_spec("ziglang")
    if package and package.origin:
        return _clang(str(Path(package.origin).with_name("zig")), "clang")
    return _clang("clang") if shutil.which("clang") else None


def _clang(*command: str) -> Clang | None:
    def said(option: str) -> str:
        return subprocess.run([*command, option], capture_output=True, text=True).stdout

    version = re.search(r"clang version (\d+)", said("--version"))
    if version is None or "amdgcn" not in said("-print-targets"):
        return None
    return Clang(command, int(version[1]))


def missing() -> str | None:
    """Why clang cannot check kernels here, or None."""
    if compiler() is None:
        return "needs clang with AMD's GPUs: pip install 'mlx-gemma4[clang]'"
    return None


def source(call: Call) -> str:
    """A kernel as clang takes it, for one choice of its template arguments."""
    inlined = call.translated.text.replace("[[kernel]] void", "inline void")
    text = as_cpp(call.translated.name, inlined, SHARED)
    text = re.sub(VECTOR, r"vector<\1, \2>(", text)
    text = re.sub(r"\bvec<([^<>]*)>\s*\(", r"vector<\1>(", text)
    parameters = [re.sub(r"\s*\[\[buffer.*", "", p) for p in call.translated.parameters]
    buffers = [p for p in parameters if "[[" not in p]
    arguments = ", ".join(_argument(p) for p in parameters)
    return f"""#include "metal_clang.h"
{text}
#line 1 "launch"
KERNEL void run({", ".join(buffers)}) {{
  using threads = Threads<{", ".join(f"{n}u" for n in call.threadgroup)}>;
  {call.translated.choice(call.template)}({arguments});
}}
"""


def _argument(parameter: str) -> str:
    attribute = re.search(r"\[\[(\w+)\]\]$", parameter)
    return f"threads::{attribute[1]}()" if attribute else parameter.split()[-1]


@dataclass(eq=False)
class Calls(Maker):
    """Keeps each kernel that is called, and returns zeros."""

    found: dict[str, Call] = field(default_factory=dict)  # by source

    def execute(self, call: Call) -> bytes:
        self.found.setdefault(source(call), call)
        return b"".join(bytes(each.nbytes) for each in call.outputs)
