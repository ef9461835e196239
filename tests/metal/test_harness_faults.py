"""Every kind of fault, planted in a sound kernel, is found and named."""

from collections.abc import Callable

import mlx.core as mx
import pytest
from generated import Maker
from metal_cpu import SCHEDULES, MetalCpu
from translate import MetalFault

Cpu = Callable[..., MetalCpu]
BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
WIDTH, THREADS, ROWS = 100, 64, 3
# out[row] = x[row] / sum(x[row]), a threadgroup for each row.
SHARES = f"""
    threadgroup float part[2];
    uint row = threadgroup_position_in_grid.x;
    uint tid = thread_position_in_threadgroup.x;
    const device T* xr = x + row * W;
    float sum = 0.0f;
    for (uint i = tid; i < W; i += 64) sum += float(xr[i]);
    sum = simd_sum(sum);
    if (thread_index_in_simdgroup == 0) part[simdgroup_index_in_threadgroup] = sum;
    {BARRIER}
    float total = part[0] + part[1];
    for (uint i = tid; i < W; i += 64) out[row * W + i] = T(float(xr[i]) / total);
"""


def shares(cpu: Maker, source: str = SHARES) -> tuple[mx.array, mx.array]:
    """What the kernel makes, and what it should."""
    x = (mx.arange(1, 1 + ROWS * WIDTH) % 17).reshape(ROWS, WIDTH)
    (out,) = cpu.metal_kernel("shares", ["x"], ["out"], source)(
        inputs=[x.astype(mx.bfloat16)],
        template=[("T", mx.bfloat16), ("W", WIDTH)],
        grid=(ROWS * THREADS, 1, 1),
        threadgroup=(THREADS, 1, 1),
        output_shapes=[x.shape],
        output_dtypes=[mx.bfloat16],
    )
    return out, (x / x.sum(axis=1, keepdims=True)).astype(mx.bfloat16)


@pytest.mark.parametrize("check", ["nothing", "address", "races"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_sound_kernel_passes(cpu: Cpu, check: str, schedule: str) -> None:
    ours, expected = shares(cpu(check=check, schedule=schedule, seed=3))
    assert mx.array_equal(ours, expected)


def test_a_wrong_result_is_seen(cpu: Cpu) -> None:
    ours, expected = shares(cpu(), SHARES.replace("x + row * W", "x"))
    assert not mx.array_equal(ours, expected)


def test_without_its_barrier_no_schedule_gives_the_result(cpu: Cpu) -> None:
    """Thanks to threadgroup memory that starts as NaNs."""
    for schedule in ("forward", "reverse"):
        ours, expected = shares(cpu(schedule=schedule), SHARES.replace(BARRIER, ""))
        assert not mx.array_equal(ours, expected)


FAULTS = {
    "no barrier": ("races", "part[0] + part[1]", (BARRIER, "")),
    "a barrier too weak": (
        "races",
        "shares.metal:",
        (BARRIER, "simdgroup_barrier(mem_flags::mem_threadgroup);"),
    ),
    "a barrier for other memory": (
        "races",
        r"data race \(write, read\) on threadgroup array 0",
        ("mem_threadgroup)", "mem_device)"),
    ),
    "two writers in a group": (
        "races",
        r"data race \(write, write\) on threadgroup array 0",
        ("[simdgroup_index_in_threadgroup]", "[0]"),
    ),
    "a writer behind a reader": (
        "races",
        r"data race \(read, write\) on threadgroup array 0",
        ("part[0] + part[1];", "part[0] + part[1]; if (tid == 63) part[0] = 0.0f;"),
    ),
    "two groups write one place": (
        "races",
        r"data race \(write, write\) on output 1.* of group 0 and .* of group 1",
        ("out[row * W + i]", "out[i]"),
    ),
    "reading what nobody wrote": (
        "races",
        "threadgroup array 0, byte 8 is read before anything was written",
        ("part[2];", "part[3];", "part[1];", "part[2];"),
    ),
    "an output left unwritten": (
        "races",
        "output 1: 6 of 600 bytes were never written",
        ("i < W; i += 64) out", "i < W - 1; i += 64) out"),
    ),
    "reading past a buffer": (
        "address",
        "heap-buffer-overflow",
        ("float(xr[i]) / total", "float(xr[i + 1]) / total"),
    ),
    "writing past a buffer": (
        "address",
        "heap-buffer-overflow",
        ("out[row * W + i]", "out[row * W + i + 1]"),
    ),
    "a threadgroup array too short": (
        "address",
        "out of bounds",
        ("part[2];", "part[1];"),
    ),
    "a misaligned vector": (
        "address",
        "misaligned",
        ("sum = 0.0f;", "sum = 0.0f * ((const device float4*)(xr + 2))->x;"),
    ),
    "signed overflow": (
        "address",
        "signed integer overflow",
        ("sum = 0.0f;", "sum = 0.0f * float(int(row) + 2147483647);"),
    ),
    "a barrier in two branches": (
        "nothing",
        "threads wait at different barriers",
        (BARRIER, f"if (tid < 32) {{ {BARRIER} }} else {{ {BARRIER} }}"),
    ),
    "a return before a barrier": (
        "nothing",
        "the barrier in line 10 is not reached by 4 of 64 threads",
        (BARRIER, f"if (tid >= 60) return; {BARRIER}"),
    ),
    "a simd operation in divergent flow": (
        "nothing",
        "divergent control flow, line 8",
        ("sum = simd_sum(sum);", "if (tid % 2) sum = simd_sum(sum);"),
    ),
    "a shuffle from a lane that has left": (
        "nothing",
        "simd_shuffle reads lane 9, which is not active",
        ("part[0] + part[1];", "0; if (tid > 7) return; total = simd_shuffle(sum, 9);"),
    ),
    "too much threadgroup memory": (
        "nothing",
        "32772 bytes of threadgroup memory",
        ("sum = 0.0f;", "sum = 0.0f; threadgroup float big[8191]; big[tid] = sum;"),
    ),
    "an implicit float to bfloat": (
        "nothing",
        "does not compile",
        ("= T(float(xr[i]) / total)", "= float(xr[i]) / total"),
    ),
    "a pointer without an address space": (
        "nothing",
        r"no address space in: const T\* xr",
        ("const device T* xr", "const T* xr"),
    ),
    "two threadgroup arrays in a statement": (
        "nothing",
        "one threadgroup array to a statement",
        ("part[2];", "part[2], more[2];"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(cpu: Cpu, fault: str) -> None:
    check, message, changes = FAULTS[fault]
    source = SHARES
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in source
        source = source.replace(old, new)
    if fault == "no barrier":  # the line, too, is named
        message = "is read before anything was written, at shares.metal:11"
    with pytest.raises(MetalFault, match=message):
        shares(cpu(check=check), source)


def test_too_many_threads_are_refused(cpu: Cpu) -> None:
    kernel = cpu().metal_kernel("one", ["x"], ["out"], "out[0] = x[0];")
    with pytest.raises(MetalFault, match="1056 threads in a group, more than 1024"):
        kernel(
            inputs=[mx.zeros(8)],
            grid=(1056, 1, 1),
            threadgroup=(1056, 1, 1),
            output_shapes=[(8,)],
            output_dtypes=[mx.float32],
        )
