"""What is CUDA's own in metal_cuda.h, tried on the CPU in place of a GPU's warps.

The tests imported from test_harness run here with this module's `cpu`.
"""

from collections.abc import Callable
from pathlib import Path

import attention_cases
import mlx.core as mx
import numpy as np
import pytest
import test_norms
from checks import Cpu
from cuda_on_cpu import CudaOnCpu
from metal_cpu import MetalCpu
from test_harness import (  # noqa: F401
    LANES,
    each,
    test_atomics_count_every_thread,
    test_every_operation_rounds,
    test_simd_operations,
    test_simdgroup_matrices_multiply,
)
from translate import MetalFault

from mlx_gemma4.kernels import using


@pytest.fixture(scope="session")
def cpu(builds: Path) -> Callable[..., MetalCpu]:
    return lambda **options: CudaOnCpu(builds, **options)


def test_a_ragged_last_group(cpu: Cpu) -> None:
    """Of whole simdgroups: the last has 32 threads and knows it."""
    x = mx.arange(96, dtype=mx.int32)
    ours = each(cpu(), "x[i] + int(threads_per_threadgroup.x)", x, mx.int32, 64)
    assert ours.tolist() == [i + (64 if i < 64 else 32) for i in range(96)]


def test_absent_lanes_are_refused(cpu: Cpu) -> None:
    with pytest.raises(MetalFault, match="a warp with absent lanes"):
        each(cpu(), "simd_sum(x[i])", LANES[:10], mx.int32)


@pytest.mark.parametrize("shift", ["up", "down"])
def test_shuffles_by_one(cpu: Cpu, shift: str) -> None:
    ours = np.array(each(cpu(), f"simd_shuffle_{shift}(x[i], 1)", LANES, mx.int32))
    if shift == "up":
        np.testing.assert_array_equal(ours[1:], np.arange(31))
    else:
        np.testing.assert_array_equal(ours[:-1], np.arange(1, 32))


def test_values_of_every_size_travel(cpu: Cpu) -> None:
    moved = [f"simd_shuffle({v}, 31 - i)" for v in ("half(x[i])", "uchar(i)")]
    moved.append("simd_shuffle(float2(9, x[i]), 31 - i).y")
    ours = each(cpu(), " + ".join(f"T({m})" for m in moved), LANES, mx.int32)
    assert ours.tolist() == [3 * (31 - i) for i in range(32)]


def test_kernels_with_barriers_and_reductions(cpu: Cpu) -> None:
    with using("norms", make=cpu().metal_kernel):
        test_norms.Inputs(test_norms.MOST, 2, 384, mx.float32).check()


def test_kernels_with_shuffles(cpu: Cpu) -> None:
    harness = cpu()
    with using("attention", make=harness.metal_kernel):
        attention_cases.compare_raw(attention_cases.Case(3, 37, window=20))
    assert harness.launches == ["gemma4_attention_RAW"]
