"""Runs Metal kernels on a CPU, checked.

The text that MLX generates is compiled as C++ (include/), with a stack of its own for
each thread; barriers and simdgroup operations switch between them.

What a run finds, beside wrong results: an implicit float to bfloat or a pointer without
an address space; barriers and simdgroup operations that not all threads reach; too much
threadgroup memory; with `check="address"` accesses outside of buffers and arrays,
misaligned ones and undefined behaviour; with `check="races"` accesses by two threads
that no barrier orders, reads of what nobody wrote, and outputs left unwritten.
"""

import hashlib
import os
import platform
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from generated import Call, Maker
from translate import MetalFault

INCLUDE = Path(__file__).parent / "include"
SCHEDULES = ("forward", "reverse", "random")
COMMON = ["-std=c++20", "-fno-strict-aliasing", "-ffp-contract=off", "-w"]
FLAGS = {
    "nothing": ["-O2"],
    "address": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover"],
    "races": ["-O1", "-g", "-no-pie"],
}
# Compiled for checking, but linked with the harness's own checker.
KERNEL_FLAGS = {"nothing": [], "address": [], "races": ["-fsanitize=thread"]}
RUNTIME_FLAGS = {"nothing": [], "address": [], "races": ["-DMETAL_CPU_RACES"]}


def missing() -> str | None:
    """Why kernels cannot run here, or None."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return "kernels run on the CPU of x86-64 Linux only"
    if not shutil.which("g++"):
        return "needs a C++ compiler: g++"
    return None


@dataclass(eq=False)
class MetalCpu(Maker):
    """Where compiled kernels are kept, and how kernels run."""

    builds: Path
    check: str = "nothing"  # or "address" or "races"
    schedule: str = "forward"
    seed: int = 0

    def execute(self, call: Call) -> bytes:
        program = compile_program(self.builds, self.text(call), self.check)
        kind = 1 if call.init_value is None else 2
        head = (SCHEDULES.index(self.schedule), self.seed)
        parts = [(b, 0) for b in call.buffers] + [(o, kind) for o in call.outputs]
        job = [struct.pack("9i", *head, *call.grid, *call.threadgroup, len(parts))]
        for part, number in parts:
            job += [struct.pack("2Q", part.nbytes, number), part.tobytes()]
        return _execute(program, b"".join(job))

    def text(self, call: Call) -> str:
        """What is compiled."""
        return call.translated.with_template(call.template)


def compile_program(builds: Path, text: str, check: str) -> Path:
    """The program that runs the translated kernel `text`; kept for the next time."""
    parts = [p.read_bytes() for p in sorted(INCLUDE.iterdir())]
    sources = b"".join(parts) + str((COMMON, FLAGS, KERNEL_FLAGS)).encode()
    runtime = builds / f"runtime-{check}-{_digest(sources)}.o"
    compiler = ["g++", *COMMON, *FLAGS[check], "-I", str(INCLUDE)]
    if not runtime.exists():
        flags = [*RUNTIME_FLAGS[check], "-c", str(INCLUDE / "runtime.cpp")]
        _compile([*compiler, *flags], runtime)
    program = builds / f"kernel-{check}-{_digest(sources + text.encode())}"
    if not program.exists():
        source, compiled = program.with_suffix(".cpp"), program.with_suffix(".o")
        source.write_text(text)
        _compile([*compiler, *KERNEL_FLAGS[check], "-c", str(source)], compiled)
        _compile([*compiler, str(compiled), str(runtime)], program)
    return program


def _compile(command: list[str], target: Path) -> None:
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    done = subprocess.run([*command, "-o", partial], capture_output=True, text=True)
    if done.returncode:
        raise MetalFault("does not compile:\n" + done.stderr[:4000])
    partial.replace(target)


def execute(
    builds: Path,
    header: str,
    call: str,
    arrays: Sequence[np.ndarray],
    threads: int,
    per_group: int,
) -> np.ndarray:
    """Runs Metal text that is not MLX's to generate: `call` defines `run_thread`.

    The output has the first array's shape and follows the arrays.
    """
    text = f'#include "metal_cpu.h"\n{header}\n{call}'
    program = compile_program(builds, text, "nothing")
    job = [struct.pack("9i", 0, 0, threads, 1, 1, per_group, 1, 1, len(arrays) + 1)]
    for part, kind in [(x, 0) for x in arrays] + [(arrays[0], 1)]:
        job += [struct.pack("2Q", part.nbytes, kind), part.tobytes()]
    result = _execute(program, b"".join(job))
    return np.frombuffer(result, arrays[0].dtype).reshape(arrays[0].shape)


def _execute(program: Path, job: bytes) -> bytes:
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    with tempfile.NamedTemporaryFile() as file:
        file.write(job)
        file.flush()
        done = subprocess.run(
            [program, file.name], capture_output=True, text=True, env=environment
        )
        if done.returncode:
            raise MetalFault(_with_lines(program, done.stderr[:6000]))
        return Path(file.name).read_bytes()


def _with_lines(program: Path, message: str) -> str:
    """`message` with the places in the kernel in place of @addresses."""

    def line(found: re.Match[str]) -> str:
        command = ["addr2line", "-i", "-e", str(program), found[1]]
        places = subprocess.run(command, capture_output=True, text=True).stdout.split()
        ours = [Path(p).name for p in places if ".metal:" in p]
        return ours[0] if ours else found[0]

    return re.sub(r"@(0x[0-9a-f]+)", line, message)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
