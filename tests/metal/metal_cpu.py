"""Runs Metal kernels on a CPU, checked.

MLX itself writes the source under test: its generator needs no Metal while a graph is
being exported. The text is then compiled as C++ (include/), with a stack of its own for
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.lib.stride_tricks import as_strided
from translate import MetalFault, Translation, translate

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
BITS = {mx.bfloat16: mx.uint16}


def missing() -> str | None:
    """Why kernels cannot run here, or None."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return "kernels run on the CPU of x86-64 Linux only"
    if not shutil.which("g++"):
        return "needs a C++ compiler: g++"
    return None


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


@dataclass(eq=False)
class MetalCpu:
    """Where compiled kernels are kept, and how kernels run."""

    builds: Path
    check: str = "nothing"  # or "address" or "races"
    schedule: str = "forward"
    seed: int = 0
    launches: list[str] = field(default_factory=list)

    def metal_kernel(
        self,
        name: str,
        input_names: Sequence[str],
        output_names: Sequence[str],
        source: str,
        header: str = "",
        ensure_row_contiguous: bool = True,
    ) -> Callable[..., list[mx.array]]:
        """As `mx.fast.metal_kernel`; the result runs at once, on the CPU."""
        names = tuple(input_names), tuple(output_names)
        kernel = Kernel(name, *names, source, header, not ensure_row_contiguous)

        def run(**call: Any) -> list[mx.array]:
            self.launches.append(name)
            return self._run(kernel, **call)

        return run

    def _run(
        self,
        kernel: "Kernel",
        inputs: Sequence[Any],
        output_shapes: Sequence[Sequence[int]],
        output_dtypes: Sequence[mx.Dtype],
        grid: tuple[int, int, int],
        threadgroup: tuple[int, int, int],
        template: Sequence[tuple[str, Any]] = (),
        init_value: float | None = None,
    ) -> list[mx.array]:
        arrays = [x if isinstance(x, mx.array) else mx.array(x) for x in inputs]
        call = {
            "inputs": arrays,
            "output_shapes": output_shapes,
            "output_dtypes": output_dtypes,
            "grid": grid,
            "threadgroup": threadgroup,
            "template": list(template),
            "init_value": init_value,
        }
        translated = kernel.translation(call)
        values = [value for _, value in template]
        program = self._build(translated.with_template(values))
        given = [_as_laid_out(x) if kernel.strided else _bits(x) for x in arrays]
        buffers = translated.buffers(kernel.input_names, given)
        outputs = _outputs(output_shapes, output_dtypes, init_value)
        kind = 1 if init_value is None else 2
        head = (SCHEDULES.index(self.schedule), self.seed, *grid, *threadgroup)
        job = [struct.pack("9i", *head, len(buffers) + len(outputs))]
        for part, number in [(b, 0) for b in buffers] + [(o, kind) for o in outputs]:
            content = _memory(part).tobytes()
            job += [struct.pack("2Q", len(content), number), content]
        result = _execute(program, b"".join(job))
        return _arrays(result, outputs, output_dtypes)

    def _build(self, text: str) -> Path:
        return compile_program(self.builds, text, self.check)


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

    def translation(self, call: dict[str, Any]) -> Translation:
        # Inputs of less than 8 elements are `constant`, those without axes references.
        inputs = [(x.dtype, x.ndim == 0, x.size < 8) for x in call["inputs"]]
        key = (str(inputs), str(call["output_dtypes"]), str(call["template"]))
        if key not in self.known:
            names = (self.name, self.input_names, self.output_names)
            text = generated_source(*names, self.source, self.header, call)
            self.known[key] = translate(text, self.name, self.source)
        return self.known[key]


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


def _arrays(
    result: bytes, outputs: Sequence[np.ndarray], dtypes: Sequence[mx.Dtype]
) -> list[mx.array]:
    arrays, start = [], 0
    for output, dtype in zip(outputs, dtypes, strict=True):
        end = start + output.nbytes
        part = np.frombuffer(result[start:end], output.dtype).reshape(output.shape)
        arrays.append(mx.array(part).view(dtype))
        start = end
    return arrays
