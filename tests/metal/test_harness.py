"""The C++ that stands for Metal computes what Metal does."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from generated import Maker
from metal_cpu import execute
from translate import MetalFault, as_cpp

Cpu = Callable[..., Maker]
LANES = mx.arange(32, dtype=mx.int32)


def each(
    cpu: Maker, expression: str, x: mx.array, dtype: mx.Dtype, threads: int = 32
) -> mx.array:
    """`out[i] = expression` for every element of `x`, by one thread each."""
    source = f"uint i = thread_position_in_grid.x; out[i] = {expression};"
    (out,) = cpu.metal_kernel("each", ["x"], ["out"], source)(
        inputs=[x],
        template=[("T", dtype)],
        grid=(x.size, 1, 1),
        threadgroup=(threads, 1, 1),
        output_shapes=[x.shape],
        output_dtypes=[dtype],
    )
    return out


def awkward() -> mx.array:
    """Ties, subnormals, overflow, infinities, signed zeros; and ordinary numbers."""
    special = [0.0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 1 + 3 * 2**-11]
    special += [65504, 65519, 65520, -65536, 2.0**-24, 2.0**-25, 3 * 2.0**-25]
    special += [6.1e-5, 5.9e-8, 1e-40, 3.4e38, np.inf, -np.inf, 2.0**-14, 0.1]
    draw = np.random.RandomState(1)
    exponents = draw.uniform(-30, 20, 491)
    values = draw.standard_normal(491) * 2.0**exponents
    return mx.array(np.concatenate([special, values]).astype(np.float32))


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_small_floats_round_as_mlxs(cpu: Cpu, dtype: mx.Dtype) -> None:
    ours = each(cpu(), "T(x[i])", awkward(), dtype)
    assert mx.array_equal(ours, awkward().astype(dtype))


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_every_operation_rounds(cpu: Cpu, dtype: mx.Dtype) -> None:
    x = mx.random.normal((256,), key=mx.random.key(2)).astype(dtype)
    ours = each(cpu(), "(x[i] * x[i] + x[i]) / T(3.0f)", x, dtype)
    assert mx.array_equal(ours, (x * x + x) / mx.array(3.0, dtype))


def test_a_ragged_last_group(cpu: Cpu) -> None:
    """The grid counts threads, as in Metal; the last group is smaller."""
    ours = each(cpu(), "x[i] + int(threads_per_threadgroup.x)", LANES, mx.int32, 24)
    assert ours.tolist() == [i + (24 if i < 24 else 8) for i in range(32)]


SIMD = {
    "simd_sum(x[i])": [496] * 32,
    "simd_max(x[i])": [31] * 32,
    "simd_min(x[i])": [0] * 32,
    "int(simd_any(x[i] == 5))": [1] * 32,
    "int(simd_all(x[i] > 0))": [0] * 32,
    "simd_broadcast(x[i], 7)": [7] * 32,
    "simd_broadcast_first(x[i] + 3)": [3] * 32,
    "simd_shuffle(x[i], 31 - i)": [31 - i for i in range(32)],
    "simd_shuffle_xor(x[i], 5)": [i ^ 5 for i in range(32)],
    "simd_prefix_exclusive_sum(x[i])": [i * (i - 1) // 2 for i in range(32)],
}


def test_simd_operations(cpu: Cpu) -> None:
    rows = [f"out[{32 * n} + i] = {what};" for n, what in enumerate(SIMD)]
    source = "uint i = thread_position_in_grid.x;" + "".join(rows)
    harness = cpu(schedule="random", seed=5)
    (out,) = harness.metal_kernel("simd", ["x"], ["out"], source)(
        inputs=[LANES],
        grid=(32, 1, 1),
        threadgroup=(32, 1, 1),
        output_shapes=[(len(SIMD), 32)],
        output_dtypes=[mx.int32],
    )
    for expression, ours in zip(SIMD, out, strict=True):
        assert ours.tolist() == SIMD[expression], expression


def test_simd_operations_skip_absent_lanes(cpu: Cpu) -> None:
    ours = each(cpu(), "simd_sum(x[i]) + 9 * simd_min(x[i] + 1)", LANES[:10], mx.int32)
    assert ours.tolist() == [54] * 10


def test_atomics_count_every_thread(cpu: Cpu) -> None:
    source = """
        threadgroup atomic_uint count;
        uint i = thread_position_in_grid.x;
        if (i == 0) atomic_store_explicit(&count, 0u, memory_order_relaxed);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        atomic_fetch_add_explicit(&count, x[i], memory_order_relaxed);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[i] = atomic_load_explicit(&count, memory_order_relaxed);
    """
    kernel = cpu(check="races").metal_kernel("count", ["x"], ["out"], source)
    (out,) = kernel(
        inputs=[mx.arange(96, dtype=mx.uint32)],
        grid=(96, 1, 1),
        threadgroup=(96, 1, 1),
        output_shapes=[(96,)],
        output_dtypes=[mx.uint32],
    )
    assert out.tolist() == [96 * 95 // 2] * 96


@pytest.mark.parametrize("transposed", [False, True])
def test_simdgroup_matrices_multiply(cpu: Cpu, transposed: bool) -> None:
    source = """
        simdgroup_matrix<float, 8, 8> a, b, c = make_filled_simdgroup_matrix<float, 8, 8>(1.0f);
        simdgroup_load(a, x, 16);
        simdgroup_load(b, y, 16, ulong2(0, 0), TRANSPOSED);
        simdgroup_multiply_accumulate(c, a, b, c);
        simdgroup_store(c, out, 8);
    """  # noqa: E501
    x, y = mx.random.normal((2, 8, 16), key=mx.random.key(3))
    (out,) = cpu(check="races").metal_kernel("product", ["x", "y"], ["out"], source)(
        inputs=[x, y],
        template=[("TRANSPOSED", transposed)],
        grid=(32, 1, 1),
        threadgroup=(32, 1, 1),
        output_shapes=[(8, 8)],
        output_dtypes=[mx.float32],
    )
    right = y[:, :8].T if transposed else y[:, :8]
    np.testing.assert_allclose(out, 1 + x[:, :8] @ right, atol=1e-5)


def test_shapes_and_numbers_are_passed(cpu: Cpu) -> None:
    source = "out[0] = float(x_shape[0] * x_strides[0] + x_ndim) + scale * few[1];"
    (out,) = cpu().metal_kernel("passed", ["x", "scale", "few"], ["out"], source)(
        inputs=[mx.zeros((3, 40)), mx.array(0.5), mx.array([1.0, 8.0])],
        grid=(1, 1, 1),
        threadgroup=(1, 1, 1),
        output_shapes=[(1,)],
        output_dtypes=[mx.float32],
    )
    assert out.tolist() == [3 * 40 + 2 + 4]


def test_views_are_passed_as_they_lie(cpu: Cpu) -> None:
    """With NaNs in what they leave out, and nothing behind them."""
    view = mx.arange(18, dtype=mx.bfloat16).reshape(3, 6)[:, 2:5]
    for text, count, expected in (
        ("i / 3 * uint(x_strides[0]) + i % 3", 9, [2, 3, 4, 8, 9, 10, 14, 15, 16]),
        ("i", 15, [2, 3, 4, *3 * [np.nan], 8, 9, 10, *3 * [np.nan], 14, 15, 16]),
    ):
        source = f"uint i = thread_position_in_grid.x; out[i] = float(x[{text}]);"
        kernel = cpu(check="address").metal_kernel(
            "view", ["x"], ["out"], source, ensure_row_contiguous=False
        )
        call: dict[str, Any] = {"inputs": [view], "threadgroup": (1, 1, 1)}
        call |= {"output_shapes": [(count,)], "output_dtypes": [mx.float32]}
        (out,) = kernel(grid=(count, 1, 1), **call)
        np.testing.assert_array_equal(out, expected)
        with pytest.raises(MetalFault, match="heap-buffer-overflow"):
            kernel(grid=(16, 1, 1), **call | {"output_shapes": [(16,)]})


def test_mlxs_own_attention_kernel_runs_unchanged(builds: Path) -> None:
    """A cross-check on text that nobody wrote for this harness: MLX's decoding
    attention, taken from the installed package."""
    folder = Path(mx.__file__).parent / "include"
    header = folder / "mlx/backend/metal/kernels/sdpa_vector.h"
    if not header.exists():
        pytest.skip("this build of MLX comes without its kernels' sources")
    D, heads, kv_heads, keys = 64, 4, 2, 37
    draw = np.random.RandomState(4)
    q, k, v = (
        draw.standard_normal(shape).astype(np.float16)
        for shape in ((heads, D), (kv_heads, keys, D), (kv_heads, keys, D))
    )
    text = re.sub(r"#include.*|using namespace.*", "", header.read_text())
    limit = "static inline const T finite_min = T(-3e38f);"
    utils = f"template <class T> struct Limits {{ {limit} }};\n"
    call = f"""
    void run_thread(void** b, const metal_cpu::Thread& t) {{
      int groups = {heads // kv_heads}, n = {keys}, zero = 0;
      size_t head = {keys * D}, row = {D};
      float scale = 1.0f;
      sdpa_vector<half, {D}>((half*)b[0], (half*)b[1], (half*)b[2], (half*)b[3],
        groups, n, head, row, head, row, scale, nullptr, nullptr, zero, zero, zero,
        nullptr, zero, uint3(t.threadgroup_position_in_grid.x, 0, 0),
        uint3(t.threadgroups_per_grid.x, 1, 1), t.simdgroup_index_in_threadgroup,
        t.thread_index_in_simdgroup);
    }}"""
    text = utils + as_cpp("sdpa", text)
    out = execute(builds, text, call, [q, k, v], heads * 1024, 1024)
    batch = [mx.array(x)[None] for x in (q[:, None], k, v)]
    expected = mx.fast.scaled_dot_product_attention(*batch, scale=1.0)
    np.testing.assert_allclose(out, np.array(expected)[0, :, 0], atol=4e-3)
