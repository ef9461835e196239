"""The kernels of attention for a few queries, against float64."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import mlx.core as mx
import pytest
from attention_cases import Case, compare, compare_raw
from checks import BARRIER, CHECKS, DTYPES, Cpu, mutated
from translate import MetalFault

from mlx_gemma4.kernels import using

MODULE = import_module("mlx_gemma4.kernels.attention")
WAYS = {"ready": compare, "raw": compare_raw}
Way = Callable[[Case], None]


def check(
    cpu: Cpu,
    case: Case,
    spans: int = 1,
    ways: tuple[str, ...] = ("ready", "raw"),
    **options: Any,
) -> None:
    for way in ways:
        harness = cpu(**options)
        with using("attention", make=harness.metal_kernel):
            WAYS[way](case)
        name = "gemma4_attention" + "_RAW" * (way == "raw")
        split = [f"{name}_PARTS", "gemma4_attention_sum"]
        assert harness.launches == ([name] if spans == 1 else split)


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several queries to a threadgroup, however few of those there are."""
    monkeypatch.setattr(MODULE, "ENOUGH", 1)


@pytest.fixture
def short_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four keys, if heads have 24 elements."""
    monkeypatch.setattr(MODULE, "MANY", 999)
    monkeypatch.setattr(MODULE, "ALONE", 4 * 24)
    monkeypatch.setattr(MODULE, "SPAN", 4 * 24)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keys", [5, 600])
def test_types(cpu: Cpu, dtype: mx.Dtype, keys: int) -> None:
    """Less than a simdgroup's keys, and more than 32 for each simdgroup."""
    check(cpu, Case(3, keys, dtype=dtype))


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("dim", [8, 136, 256, 384, 512])
def test_odd_heads(cpu: Cpu, dim: int) -> None:
    """Less than a pack for each lane, and not as many for each."""
    check(cpu, Case(2, 37, 17, 1, dim))  # too many queries for MLX's own kernel


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("rows", range(1, 17))
def test_rows(cpu: Cpu, rows: int) -> None:
    check(cpu, Case(rows, rows, dtype=mx.float32))
    check(cpu, Case(rows, 40 + rows, dtype=mx.float32))


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("shared", [1, 3, 5, 8])
def test_queries_that_share_keys(cpu: Cpu, shared: int) -> None:
    """Fewer than go together, several threadgroups, and a last one that is not full."""
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
        check(cpu, Case(rows, 45, *sliding, 256, window=40), ways=("raw",))
        check(cpu, Case(rows, 45, *full, 512))


@pytest.mark.parametrize(
    ("window", "heads", "spans"), [(512, 2, 1), (1024, 2, 9), (1024, 16, 1)]
)
def test_real_windows(cpu: Cpu, window: int, heads: int, spans: int) -> None:
    """One launch or two, for a draft of three tokens behind a full window."""
    check(cpu, Case(3, window + 2, heads, 1, 256, window), spans, ("raw",))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [None, 2, 9])
@pytest.mark.usefixtures("short_spans", "together")
def test_spans(cpu: Cpu, window: int | None, dtype: mx.Dtype) -> None:
    """Uneven ones, and more of them than a window's first queries fill."""
    check(cpu, Case(5, 23, batch=2, window=window, dtype=dtype), 2)
    check(cpu, Case(1, 170, window=window, dtype=dtype), spans=1 + (window != 2))


def test_the_number_of_spans() -> None:
    few, many = 512 + 16, MODULE.MOST_SPANS
    counts = {(few, 256): 1, (few + 1, 256): 5, (few, 512): 9, (131_072, 512): many}
    for (seen, dim), spans in counts.items():
        assert MODULE._spans(seen, dim, 8) == spans
    assert MODULE._spans(2 * few, 256, 32) == 1  # other threadgroups keep cores busy


def test_how_many_queries_go_together() -> None:
    """More than one where there are threadgroups enough."""
    together = {(8, 1): 1, (8, 32): 2, (8, 128): 8, (1, 999): 1, (3, 999): 2}
    for (sharing, others), count in together.items():
        assert MODULE._together(sharing, others) == count


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("check_for", "schedule"), CHECKS)
def test_memory_and_order(
    cpu: Cpu,
    monkeypatch: pytest.MonkeyPatch,
    check_for: str,
    schedule: str,
    way: str,
    split: bool,
) -> None:
    if split:
        monkeypatch.setattr(MODULE, "ALONE", 20 * 24)
        monkeypatch.setattr(MODULE, "SPAN", 50 * 24)
    case = Case(3, 79, 6, 2, window=77, batch=2)
    check(cpu, case, 1 + split, (way,), check=check_for, schedule=schedule)


MUTATIONS = {
    "no barrier behind the queries": (
        "races",
        (f"{BARRIER}  // queries stored", ""),
        "read before anything was written|data race",
    ),
    "no barrier before the sums": (
        "races",
        (f"{BARRIER}  // tops stored, queries read", ""),
        "read before anything was written|data race",
    ),
    "no barrier before the elements": (
        "races",
        (f"{BARRIER}  // sums stored", ""),
        "read before anything was written|data race",
    ),
    "the next key": (
        "address",
        ("stop - 1) * key_down", "stop) * key_down"),
        "heap-buffer-overflow",
    ),
    "a head too far": (
        "address",
        ("kv_head * values_strides", "(kv_head + 1) * values_strides"),
        "heap-buffer-overflow",
    ),
    "elements that are none": (
        "address",
        ("min(4 * lane + 128 * j, uint(D - 4))", "4 * lane + 128 * j"),
        "heap-buffer-overflow",
    ),
    "queries that are none": (
        "address",
        ("min(count - first, uint(QUERIES))", "uint(QUERIES)"),
        "heap-buffer-overflow",
    ),
    "a query left out": (
        "races",
        ("i < taken * D", "i < (taken - 1) * D"),
        "never written",
    ),
}
WRONG = {
    "the oldest key": ("last - window : 0", "last - window + 1 : 0"),
    "a later key": ("- rows + row + 1;", "- rows + row + 2;"),
    "heads without gaps": ("keys_strides[1]", "keys_shape[2] * D"),
    "a row of another head": ("number / sharing", "number % rows"),
    "another scale": ("total = total * kept +", "total = total +"),
    "the last key twice": ("score = lane < some ? score : LOWEST;", ""),
    "simdgroups that share keys": ("(group + 1) * share", "(group + 2) * share"),
    "another query's scale": ("totals[g * QUERIES + q]", "totals[g * QUERIES]"),
    "an angle of another row": ("int(row))", "0)"),
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
        check(cpu, Case(3, 79, 6, 2, window=77), ways=("raw",), check=check_for)


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
        check(cpu, case, ways=("raw",))


SUM_WRONG = {
    "a span that is not added": ("k = 0; k < 8; k++) sum", "k = 1; k < 8; k++) sum"),
    "only the first spans": ("start < spans; start += 32", "start < 1; start += 32"),
    "another highest score": ("highest = simd_max(highest)", "highest += 1"),
}


@pytest.mark.usefixtures("short_spans")
@pytest.mark.parametrize("mutation", SUM_WRONG)
def test_a_wrong_sum_is_noticed(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch, mutation: str
) -> None:
    with (
        mutated(monkeypatch, "attention_sum", *SUM_WRONG[mutation]),
        pytest.raises(AssertionError),
    ):
        check(cpu, Case(1, 170, dtype=mx.float32), 2, ("ready",))


@pytest.mark.usefixtures("short_spans")
def test_elements_that_are_none_are_noticed(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = "if (D % 32 == 0 || thread_position_in_grid.x < D) out[query * D + d]"
    with (
        mutated(
            monkeypatch,
            "attention_sum",
            guard,
            "out[query * D + thread_position_in_grid.x]",
        ),
        pytest.raises(MetalFault, match="heap-buffer-overflow"),
    ):
        check(cpu, Case(1, 23), 2, ("ready",), check="address")
