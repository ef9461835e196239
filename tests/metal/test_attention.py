"""The kernels of attention for a few queries, against float64."""

from importlib import import_module
from typing import Any

import mlx.core as mx
import pytest
from attention_cases import Case, compare
from checks import CHECKS, DTYPES, Cpu, mutated
from translate import MetalFault

from mlx_gemma4.kernels import using

MODULE = import_module("mlx_gemma4.kernels.attention")


def check(cpu: Cpu, case: Case, spans: int = 1, **options: Any) -> None:
    harness = cpu(**options)
    with using("attention", make=harness.metal_kernel):
        compare(case)
    split = ["gemma4_attention_PARTS", "gemma4_attention_sum"]
    assert harness.launches == (["gemma4_attention"] if spans == 1 else split)


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several queries to a threadgroup, however few of those there are."""
    monkeypatch.setattr(MODULE, "ENOUGH", 1)


@pytest.fixture
def spans_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "ALONE", 4)
    monkeypatch.setattr(MODULE, "SPAN", 4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keys", [5, 300])
def test_types(cpu: Cpu, dtype: mx.Dtype, keys: int) -> None:
    """Less than a simdgroup's keys, and more than all simdgroups' together."""
    check(cpu, Case(3, keys, dtype=dtype))


@pytest.mark.parametrize("dim", [8, 33, 256, 288, 512])
def test_odd_heads(cpu: Cpu, dim: int) -> None:
    """Less than an element for each lane, and not as many for each."""
    check(cpu, Case(2, 37, heads=3, kv_heads=3, dim=dim))


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("rows", range(1, 17))
def test_rows(cpu: Cpu, rows: int) -> None:
    check(cpu, Case(rows, rows, dtype=mx.float32))
    check(cpu, Case(rows, 40 + rows, dtype=mx.float32))


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("shared", [1, 3, 5, 8])
def test_queries_that_share_keys(cpu: Cpu, shared: int) -> None:
    """Fewer than a tile, several tiles, and a last one that is not full."""
    check(cpu, Case(3, 41, heads=2 * shared, kv_heads=2, batch=2))


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("window", [1, 2, 6, 32, 36, 37, 50])
def test_windows(cpu: Cpu, window: int) -> None:
    """From a query that sees itself alone to a window that does not bite."""
    check(cpu, Case(6, 37, window=window, dtype=mx.float32))


REAL = {
    "E2B": ((8, 1), (8, 1)),
    "E4B": ((8, 2), (8, 2)),
    "26B-A4B": ((16, 8), (16, 2)),
    "31B": ((32, 16), (32, 4)),
}


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("model", REAL)
def test_real_heads(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch, model: str, rows: int
) -> None:
    """Of sliding layers, 256 wide, and of full ones, 512 wide; each query for itself,
    and together."""
    sliding, full = REAL[model]
    for enough in (MODULE.ENOUGH, 1):
        monkeypatch.setattr(MODULE, "ENOUGH", enough)
        check(cpu, Case(rows, 45, *sliding, 256, window=40))
        check(cpu, Case(rows, 45, *full, 512))


@pytest.mark.parametrize(("window", "spans"), [(512, 1), (1024, 9)])
def test_real_windows(cpu: Cpu, window: int, spans: int) -> None:
    """One launch or two, for a draft of three tokens behind a full window."""
    check(cpu, Case(3, window + 2, 2, 1, 256, window), spans)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [None, 2, 9])
@pytest.mark.usefixtures("spans_of_four", "together")
def test_spans(cpu: Cpu, window: int | None, dtype: mx.Dtype) -> None:
    """Uneven ones, and more of them than a window's first queries fill."""
    check(cpu, Case(5, 23, batch=2, window=window, dtype=dtype), 2)
    check(cpu, Case(1, 6, dim=40, window=window, dtype=dtype), spans=1 + (window != 2))


def test_the_number_of_spans() -> None:
    few, many = 512 + 16, MODULE.MOST_SPANS
    counts = {(few, 1): 1, (few + 1, 1): 5, (1024, 1): 8, (131_072, 1): many}
    for (keys, rows), spans in counts.items():
        assert MODULE._spans(keys, rows, MODULE.EVERYTHING) == spans
    assert MODULE._spans(131_072, 16, 512) == 1


def test_how_many_queries_go_together() -> None:
    """More than one where there are threadgroups enough; fewer of wide heads."""
    assert MODULE._tile(256, sharing=8, others=1) == 1
    assert MODULE._tile(256, sharing=8, others=16) == 2
    assert MODULE._tile(256, sharing=8, others=32) == 4
    assert MODULE._tile(512, sharing=8, others=32) == 2
    assert MODULE._tile(256, sharing=1, others=999) == 1


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(("check_for", "schedule"), CHECKS)
def test_memory_and_order(
    cpu: Cpu,
    monkeypatch: pytest.MonkeyPatch,
    check_for: str,
    schedule: str,
    split: bool,
) -> None:
    if split:
        monkeypatch.setattr(MODULE, "ALONE", 40)
        monkeypatch.setattr(MODULE, "SPAN", 50)
    case = Case(3, 79, 6, 2, 24, window=77, batch=2)
    check(cpu, case, 1 + split, check=check_for, schedule=schedule)


LAST = "threadgroup_barrier(mem_flags::mem_threadgroup);  // before"
MUTATIONS = {
    "no barrier before the sums": (
        "races",
        ("}\nthreadgroup_barrier(mem_flags::mem_threadgroup);\nfor", "}\nfor"),
        "read before anything was written|data race",
    ),
    "no barrier before the elements": (
        "races",
        ("  threadgroup_barrier(mem_flags::mem_threadgroup);\n  const", "  const"),
        "read before anything was written|data race",
    ),
    "no barrier before the next query": (
        "races",
        (LAST, "// before"),
        r"data race \(read, write\) on threadgroup array",
    ),
    "the next key": (
        "address",
        ("at * keys_strides", "(at + 1) * keys_strides"),
        "heap-buffer-overflow",
    ),
    "a head too far": (
        "address",
        ("kv_head * values_strides", "(kv_head + 1) * values_strides"),
        "heap-buffer-overflow",
    ),
    "queries that are none": (
        "address",
        ("if (number >= rows * sharing) continue;", ""),
        "heap-buffer-overflow",
    ),
    "a query left out": (
        "races",
        ("number >= rows * sharing", "number + 1 >= rows * sharing"),
        "never written",
    ),
}
WRONG = {
    "the oldest key": ("at + window >= ends", "at + window > ends"),
    "a later key": ("at < ends[t]", "at <= ends[t]"),
    "heads without gaps": ("keys_strides[1]", "keys_shape[2] * D"),
    "a row of another head": ("number / sharing", "number % rows"),
    "another scale": ("total[t] * kept +", "total[t] +"),
    "a span that is forgotten": ("(last - lowest + splits - 1)", "(splits - 1)"),
}


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_is_caught(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch, mutation: str
) -> None:
    check_for, change, message = MUTATIONS[mutation]
    with (
        mutated(monkeypatch, "attention", *change),
        pytest.raises(MetalFault, match=message),
    ):
        check(cpu, Case(3, 79, 6, 2, window=77), check=check_for)


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("mutation", WRONG)
def test_a_wrong_result_is_noticed(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch, mutation: str
) -> None:
    case = Case(3, 300, 6, 2, window=290, dtype=mx.float32)
    with (
        mutated(monkeypatch, "attention", *WRONG[mutation]),
        pytest.raises(AssertionError),
    ):
        check(cpu, case)


@pytest.mark.usefixtures("spans_of_four")
def test_a_span_that_is_not_added_is_noticed(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        mutated(monkeypatch, "attention_sum", "s = 0", "s = 1"),
        pytest.raises(AssertionError),
    ):
        check(cpu, Case(1, 23), 2)


@pytest.mark.usefixtures("spans_of_four")
def test_elements_that_are_none_are_noticed(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        mutated(monkeypatch, "attention_sum", "if (d < width) out", "out"),
        pytest.raises(MetalFault, match="heap-buffer-overflow"),
    ):
        check(cpu, Case(1, 23), 2, check="address")
