"""The kernels as CUDA: Metal's text translated, and compiled by NVRTC without a GPU.

NVRTC comes with the extra `cuda`. It needs neither the toolkit nor its headers.
"""

import ctypes
import sys
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from generated import Call, Maker, Size
from translate import as_cpp

INCLUDE = Path(__file__).parent / "include"
# The oldest with bfloat, and a later one for which there is machine code, too.
ARCHITECTURES = ("compute_80", "sm_90")
OPTIONS = ("-std=c++20", "-default-device", f"-I{INCLUDE}")
MOST_BLOCKS = (2**31 - 1, 65535, 65535)
MOST_THREADS = (1024, 1024, 64)
SHARED = "__shared__ {alias} {name};"
# Where NVIDIA's packages for CUDA 13 and for CUDA 12 keep it.
PLACES = ("nvidia/cu13/lib/libnvrtc.so.*", "nvidia/cuda_nvrtc/lib/libnvrtc.so.*")


class CudaFault(Exception):
    """A kernel is not CUDA, cannot be launched, or failed on the GPU."""


@dataclass(frozen=True)
class Program:
    """A kernel as the assembly text PTX, and as machine code for real architectures."""

    ptx: bytes
    cubin: bytes


def cuda_source(call: Call, shared: str = SHARED) -> str:
    """A complete CUDA file; its kernel `run` takes the buffers and the grid.

    shared: how an array in a threadgroup's memory is declared.
    """
    translated = call.translated
    text = as_cpp(translated.name, translated.text, shared)
    text = text.replace('_Pragma("clang loop unroll(full)")', '_Pragma("unroll")')
    buffers = len(call.buffers) + len(call.outputs)
    return f"""#include "metal_cuda.h"
namespace metal {{
{text}
#line 1 "launch"
extern "C" __global__ void __launch_bounds__({prod(call.threadgroup)}) run(
    metal_cuda::Buffers<{buffers}> buffers, uint x, uint y, uint z) {{
  const metal_cpu::Thread t = metal_cuda::this_thread(x, y, z);
  void** b = buffers.at;
  if (metal_cuda::inside(t)) {translated.call(call.template)};
}}
}}
"""


def blocks(grid: Size, threadgroup: Size) -> Size:
    """Threadgroups in a grid of threads. Raises CudaFault for what CUDA cannot run.

    A warp has no absent lanes here, so a group, also a smaller last one, has to be
    made of whole simdgroups, with its threads in the order that they have in full ones.
    """
    axes = list(zip(grid, threadgroup, strict=True))
    counts = [-(-threads // size) for threads, size in axes]
    counts = counts[0], counts[1], counts[2]
    fits = all(n <= most for n, most in zip(counts, MOST_BLOCKS, strict=True))
    fits &= all(n <= most for n, most in zip(threadgroup, MOST_THREADS, strict=True))
    if not fits or prod(threadgroup) > MOST_THREADS[0]:
        raise CudaFault(f"too large for CUDA: {grid} in groups of {threadgroup}")
    whole = prod(min(each) for each in axes) % 32 == 0
    for axis, (threads, size) in enumerate(axes):
        if rest := threads % size:
            whole &= rest * prod(threadgroup[:axis]) % 32 == 0
            whole &= prod(threadgroup[axis + 1 :]) == 1
    if not whole:
        raise CudaFault(f"part of a simdgroup: {grid} in groups of {threadgroup}")
    return counts


def library() -> Path | None:
    """NVRTC as installed from a package index."""
    folders = [Path(folder) for folder in sys.path if folder]
    found = (path for place in PLACES for f in folders for path in f.glob(place))
    return next(found, None)


def missing() -> str | None:
    """Why kernels cannot be compiled here, or None."""
    if library() is None:
        return "needs NVIDIA's compiler: pip install 'mlx-gemma4[cuda]', on Linux"
    return None


class Nvrtc:
    """The compiler, by its C interface."""

    def __init__(self, path: Path):
        self.functions = ctypes.CDLL(str(path))
        self.functions.nvrtcGetErrorString.restype = ctypes.c_char_p

    def compile(self, text: str, name: str, architecture: str) -> Program:
        """Raises CudaFault with the compiler's messages."""
        program = ctypes.c_void_p()
        texts = (text.encode(), name.encode())
        self._call("CreateProgram", ctypes.byref(program), *texts, 0, None, None)
        try:
            options = [o.encode() for o in (f"-arch={architecture}", *OPTIONS)]
            array = (ctypes.c_char_p * len(options))(*options)
            if self.functions.nvrtcCompileProgram(program, len(options), array):
                log = self._output(program, "ProgramLog").rstrip(b"\0").decode()
                fault = f"{name}, {architecture}: does not compile:\n{log[:4000]}"
                raise CudaFault(fault)
            return Program(self._output(program, "PTX"), self._output(program, "CUBIN"))
        finally:
            self._call("DestroyProgram", ctypes.byref(program))

    def _output(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"Get{what}Size", program, ctypes.byref(size))
        made = ctypes.create_string_buffer(size.value)
        self._call(f"Get{what}", program, made)
        return made.raw

    def _call(self, name: str, *arguments: object) -> None:
        result = self.functions[f"nvrtc{name}"](*arguments)
        if result:
            message = self.functions.nvrtcGetErrorString(result).decode()
            raise CudaFault(f"nvrtc{name}: {message}")


@dataclass(eq=False)
class CudaSources(Maker):
    """Notes the source of each kernel that is called, and returns zeros.

    Raises CudaFault for a call that CUDA cannot run.
    """

    names: dict[str, str] = field(default_factory=dict)  # by source

    def execute(self, call: Call) -> bytes:
        blocks(call.grid, call.threadgroup)
        self.names[cuda_source(call)] = call.name
        return b"".join(bytes(each.nbytes) for each in call.outputs)
