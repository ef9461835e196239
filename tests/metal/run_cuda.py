"""Runs the kernels on an NVIDIA GPU and compares them with float64 references.

    pip install -e '.[dev,cuda]'
    python tests/metal/run_cuda.py

This checks what the kernels compute, with threads that really run at once; it says
nothing about their speed on an Apple GPU. MLX needs no GPU of its own: it generates the
kernels' text on the CPU, and the references are numpy's. The GPU has to be of compute
capability 8.0 or newer. An older driver may need the compiler of its own CUDA version,
nvidia-cuda-nvrtc-cu12 in place of nvidia-cuda-nvrtc.

Nobody has run it on a GPU yet. Its tests compile the kernels (test_cuda.py), run some
of the CUDA on a CPU (test_cuda_on_cpu.py), and launch on a stand-in for the driver
(test_cuda_driver.py). With --on-cpu it runs all of it on a CPU, in some minutes: what
the kernels and the headers compute, but not the driver, nor threads at once.

With --sanitize everything runs once more in each of two tools of NVIDIA's
compute-sanitizer: for accesses outside of buffers, and for races in shared memory.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import mlx.core as mx
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

import metal_cpu
from checks import DTYPES, Error, noted
from cuda import CudaFault, Nvrtc, library, missing
from cuda_driver import DRIVER, CudaGpu, Driver
from cuda_on_cpu import CudaOnCpu
from generated import Maker
from real_cases import CASES, SLOW_CASES

from mlx_gemma4.kernels import using

SANITIZER = "compute-sanitizer"
TOOLS = ("memcheck", "racecheck")


def errors(gpu: Maker, name: str, dtype: mx.Dtype) -> list[Error]:
    """Of all that kernel `name` computes in its cases."""
    before = len(gpu.launches)
    try:
        with using(name, make=gpu.metal_kernel), noted() as found:
            CASES[name](dtype)
            if name in SLOW_CASES:
                SLOW_CASES[name](dtype)
    except CudaFault as fault:
        raise CudaFault(f"{name}, {dtype}: {fault}") from None
    if len(gpu.launches) == before:
        raise CudaFault(f"{name}: no kernel was launched")
    return found


def line(name: str, dtype: mx.Dtype, found: list[Error]) -> str:
    passed = all(error.passes for error in found)
    largest = np.max([error.largest for error in found], initial=0.0)
    allowed = np.max([error.allowed for error in found], initial=0.0)
    kind = str(dtype).removeprefix("mlx.core.")
    return (
        f"{name:<10}{kind:<10}{len(found):>4} results   largest error {largest:8.1e}"
        f" of {allowed:.1e}   {'pass' if passed else 'FAIL'}"
    )


def compare(gpu: Maker, names: list[str]) -> bool:
    """Prints a line for each kernel and dtype; whether all pass."""
    passed = True
    for name in names:
        for dtype in DTYPES:
            text = line(name, dtype, errors(gpu, name, dtype))
            passed &= text.endswith("pass")
            print(text, flush=True)
    return passed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kernels", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--driver", default=DRIVER, help="the driver's library")
    parser.add_argument("--on-cpu", action="store_true", help="the same CUDA by g++")
    parser.add_argument("--sanitize", action="store_true", help=f"with {SANITIZER} too")
    options = parser.parse_args(arguments)
    try:
        if options.on_cpu:
            return run_on_cpu(options.kernels)
        failed = run_on_gpu(options.kernels, options.driver)
        if options.sanitize and not failed:
            failed = run_in_sanitizer(options.kernels, options.driver)
        return failed
    except CudaFault as fault:
        print(fault, file=sys.stderr)
        return 1


def run_on_gpu(names: list[str], library_of_driver: str) -> int:
    compiler = library()
    if compiler is None:
        raise CudaFault(missing())
    driver = Driver(library_of_driver)
    print(f"{driver.name}, {driver.architecture}", flush=True)
    return 0 if compare(CudaGpu(driver, Nvrtc(compiler)), names) else 1


def run_in_sanitizer(names: list[str], library_of_driver: str) -> int:
    """This script again, in each tool; the first exit code that is not 0."""
    found = shutil.which(SANITIZER)
    if found is None:
        raise CudaFault(f"no {SANITIZER} on the PATH: it comes with the CUDA toolkit")
    options = ["--driver", library_of_driver, "--kernels", *names]
    for tool in TOOLS:
        print(f"{SANITIZER}: {tool}", flush=True)
        command = [found, "--tool", tool, "--error-exitcode", "3", sys.executable]
        done = subprocess.run([*command, __file__, *options])
        if done.returncode:
            return done.returncode
    return 0


def run_on_cpu(names: list[str]) -> int:
    if reason := metal_cpu.missing():
        raise CudaFault(reason)
    with tempfile.TemporaryDirectory() as builds:
        print("this machine's CPU, with fibers for lanes", flush=True)
        return 0 if compare(CudaOnCpu(Path(builds)), names) else 1


if __name__ == "__main__":
    sys.exit(main())
