"""Every kernel compiles as CUDA, in all of its variants. Needs no GPU."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product

import cuda
import mlx.core as mx
import pytest
import test_harness
from checks import DTYPES, mutated, noted
from real_cases import CASES

from mlx_gemma4.kernels import NAMES, using


@pytest.fixture(scope="session")
def nvrtc() -> cuda.Nvrtc:
    path = cuda.library()
    if path is None:
        pytest.skip(str(cuda.missing()))
    return cuda.Nvrtc(path)


def sources(name: str, dtypes: Iterable[mx.Dtype] = DTYPES) -> dict[str, str]:
    """The kernels' names, by source."""
    maker = cuda.CudaSources()
    with using(name, make=maker.metal_kernel), noted():
        for dtype in dtypes:
            CASES[name](dtype)
    return maker.names


def test_every_kernel_has_its_cases() -> None:
    """One that is missing here belongs into real_cases.py."""
    assert sorted(CASES) == sorted(NAMES)


@pytest.mark.parametrize("name", CASES)
def test_a_kernel_compiles(nvrtc: cuda.Nvrtc, name: str) -> None:
    programs = sources(name)
    assert len(programs) >= len(DTYPES)
    assert all(kernel.startswith(f"gemma4_{name}") for kernel in programs.values())
    check(nvrtc, programs)


def check(nvrtc: cuda.Nvrtc, programs: dict[str, str]) -> None:
    """Compiles them for all architectures, several at a time."""

    def compiled(job: tuple[tuple[str, str], str]) -> None:
        (text, kernel), architecture = job
        program = nvrtc.compile(text, kernel, architecture)
        assert b".entry run(" in program.ptx
        assert bool(program.cubin) == architecture.startswith("sm")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compiled, product(programs.items(), cuda.ARCHITECTURES)))


def test_what_no_kernel_uses_yet_compiles_too(nvrtc: cuda.Nvrtc) -> None:
    """The harness's own kernels. Zeros are not what they expect."""
    maker = cuda.CudaSources()

    def cpu(**_: object) -> cuda.CudaSources:
        return maker

    for test in (
        test_harness.test_simd_operations,
        test_harness.test_atomics_count_every_thread,
        partial(test_harness.test_every_operation_rounds, dtype=mx.bfloat16),
        partial(test_harness.test_simdgroup_matrices_multiply, transposed=True),
    ):
        with pytest.raises(AssertionError):
            test(cpu)
    assert len(maker.names) == 4
    check(nvrtc, maker.names)


FAULTS = {
    "a syntax error": (
        "norms",
        "float y[COUNT][4];",
        "float y[COUNT[4];",
        r"norms.metal\(45",
    ),
    "an unknown name": ("gate", "float(factor[at])", "faktor[at]", "faktor"),
    "an unknown function": ("router", "simd_max(best)", "simd_most(best)", "simd_most"),
    "too much memory": ("norms", "part_x[32]", "part_x[32768]", "shared data"),
    "an implicit bfloat": (
        "heads",
        "T(made.x)",
        "made.x",
        "bfloat16_t = float",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(
    nvrtc: cuda.Nvrtc, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    name, old, new, message = FAULTS[fault]
    with mutated(monkeypatch, name, old, new):
        (text, kernel), *_ = sources(name, [mx.bfloat16]).items()
    with pytest.raises(cuda.CudaFault, match=message):
        nvrtc.compile(text, kernel, "sm_90")
