"""The kernel of many queries' attention, against float64."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import tiny
from checks import CHECKS, DTYPES, Cpu, close, exact, mutated, random
from translate import MetalFault

from mlx_gemma4.kernels import using
from mlx_gemma4.text.masks import Mask, attend, band

Arrays = tuple[mx.array, mx.array, mx.array]
BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);  // "
UNUSED = 3  # slots of the cache before and behind the keys


@dataclass(frozen=True)
class Case:
    """`length` queries behind `earlier` keys; all in views, as in the model."""

    length: int
    earlier: int = 0
    window: int | None = None
    dim: int = 16
    heads: tuple[int, int] = (2, 1)
    batch: int = 1
    dtype: mx.Dtype = mx.bfloat16

    @property
    def mask(self) -> Mask:
        if self.window is None:
            return "causal"
        return band(self.length, self.length + self.earlier, self.window)

    def arrays(self) -> Arrays:
        """Queries, keys and values [B, H, L or S, D], scores of about 1."""
        B, S, D = self.batch, self.length + self.earlier, self.dim
        queries = random(1, (B, self.length, self.heads[0], D), mx.float32) / D**0.5
        slots = (B, self.heads[1], S + 2 * UNUSED, D)
        keys, values = (
            random(seed, slots, self.dtype)[:, :, UNUSED : UNUSED + S]
            for seed in (2, 3)
        )
        return queries.astype(self.dtype).transpose(0, 2, 1, 3), keys, values

    def expected(self, arrays: Arrays) -> np.ndarray:
        queries, keys, values = (exact(x) for x in arrays)
        shared = self.heads[0] // self.heads[1]
        keys, values = (np.repeat(x, shared, axis=1) for x in (keys, values))
        scores = queries @ keys.swapaxes(2, 3)
        L, S = scores.shape[2:]
        distance = np.arange(S - L, S)[:, None] - np.arange(S)
        seen = (distance >= 0) & (distance < (self.window or S))
        scores = np.where(seen, scores, -np.inf)
        shares = np.exp(scores - scores.max(axis=3, keepdims=True))
        return shares / shares.sum(axis=3, keepdims=True) @ values

    def check(self) -> None:
        arrays = self.arrays()
        close(attend(*arrays, self.mask), self.expected(arrays))


# Rows are taken 32 at a time, 16 or 8 of wide heads; keys 8 for each of 8 simdgroups.
REAL = {
    "sliding, the window bites": Case(41, 59, 37, 256, (4, 2)),
    "sliding, the window does not bite": Case(41, 0, 100, 256),
    "a batch": Case(17, 6, 9, 256, (2, 2), batch=2),
    "full": Case(33, 30, None, 512, (4, 1)),
    "full with a window": Case(19, 70, 21, 512),
    "small heads": Case(45, 40, 11, 64, (4, 2), batch=2),
    "rows that are not a power of two": Case(35, 4, None, 264),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", REAL.values(), ids=REAL)
def test_real_heads(cpu: Cpu, case: Case, dtype: mx.Dtype) -> None:
    harness = cpu()
    with using("prefill", make=harness.metal_kernel):
        replace(case, dtype=dtype).check()
    assert harness.launches == ["gemma4_prefill"]


def test_odd_sizes(cpu: Cpu) -> None:
    """Rows and keys that fill no block, windows down to one key; 1, 2 and 4
    simdgroups."""
    with using("prefill", make=cpu(schedule="random", seed=5).metal_kernel):
        for dim in (8, 16, 24, 32):
            for length, earlier, window in (
                (17, 0, None),
                (31, 2, 1),
                (33, 1, 8),
                (64, 64, 64),
                (70, 19, 33),
            ):
                Case(length, earlier, window, dim, (3, 1), 2, mx.float32).check()


def test_a_chunk_behind_a_full_window(cpu: Cpu) -> None:
    with using("prefill", make=cpu().metal_kernel):
        Case(40, 1023, 1024, 256).check()


@pytest.mark.parametrize(("check", "schedule"), CHECKS)
def test_memory_and_order(cpu: Cpu, check: str, schedule: str) -> None:
    with using("prefill", make=cpu(check=check, schedule=schedule).metal_kernel):
        Case(37, 6, 9, batch=2).check()
        Case(17, 30).check()


def poisoned(case: Case, first: int, last: int) -> tuple[mx.array, np.ndarray]:
    """What comes of it if keys and values `first` to `last` are NaN, and what should
    come without."""
    queries, keys, values = case.arrays()
    expected = case.expected((queries, keys, values))
    places = mx.arange(keys.shape[2])[:, None]
    broken = (places >= first) & (places <= last)
    nan = mx.array(mx.nan, keys.dtype)
    keys, values = (mx.where(broken, nan, x) for x in (keys, values))
    return attend(queries, keys, values, case.mask), expected


# 32 rows to a block: the first ones see keys 21 to 61, the second 53 to 93, the third
# 85 to 125. A share of nothing of a NaN is NaN: what is right was not read.
BLOCKS = Case(96, 30, 10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_no_row_of_a_block_sees_is_not_read(cpu: Cpu, dtype: mx.Dtype) -> None:
    case = replace(BLOCKS, dtype=dtype)
    with using("prefill", make=cpu().metal_kernel):
        for first, last, reached in ((0, 20, ()), (62, 84, (1,)), (94, 125, (2,))):
            out, expected = poisoned(case, first, last)
            for block in range(3):
                rows = slice(32 * block, 32 * block + 32)
                if block in reached:
                    assert np.isnan(exact(out[:, :, rows])).any()
                else:
                    close(out[:, :, rows], expected[:, :, rows])


READS_TOO_MUCH = {
    "from the first key on": ("int base = first", "int base = 0"),
    "a key too early": ("- window[0] + 1);", "- window[0]);"),
    "to the last key": ("position + ROWS);", "position + 999);"),
    "a key too late": ("position + ROWS);", "position + ROWS + 1);"),
}


@pytest.mark.parametrize("mutation", READS_TOO_MUCH)
def test_reading_too_much_is_caught(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch, mutation: str
) -> None:
    with (
        mutated(monkeypatch, "prefill", *READS_TOO_MUCH[mutation]),
        using("prefill", make=cpu().metal_kernel),
    ):
        for keys, rows in (((0, 20), slice(0, 32)), ((62, 125), slice(0, 32))):
            out, expected = poisoned(BLOCKS, *keys)
            if np.isnan(exact(out[:, :, rows])).any():
                return
            close(out[:, :, rows], expected[:, :, rows])
    pytest.fail("nothing was read that should not be")


MUTATIONS = {
    **{
        f"no barrier: {reason}": ("races", (BARRIER + reason, ""), "data race|before")
        for reason in (
            "rows stored",
            "scores stored",
            "shares and factors stored",
            "last factors read",
            "factors stored",
        )
    },
    "keys behind the last": (
        "address",
        ("min(mine + column + 1, end - 1)", "(mine + column + 1)"),
        "heap-buffer-overflow",
    ),
    "values behind the last": (
        "address",
        ("min(base + j + row, end - 1)", "(base + j + row)"),
        "heap-buffer-overflow",
    ),
    "queries behind the last": (
        "address",
        ("start + r < length", "true"),
        "heap-buffer-overflow",
    ),
    "a row left out": (
        "races",
        ("start + r >= length", "start + r >= length - 1"),
        "output .: 32 of .* bytes were never written",
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_is_caught(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch, mutation: str
) -> None:
    check, change, message = MUTATIONS[mutation]
    with (
        mutated(monkeypatch, "prefill", *change),
        using("prefill", make=cpu(check=check).metal_kernel),
        pytest.raises(MetalFault, match=message),
    ):
        Case(35, 4, 9, heads=(1, 1)).check()


WRONG = {
    "the window one too long": ("- window[0] + 1;", "- window[0];"),
    "the last key hidden": ("base + c <= newest", "base + c < newest"),
    "another head's keys": ("head / (heads / keys_shape[1])", "head % keys_shape[1]"),
    "sums not rescaled": ("sum[j] * factor + simd_sum", "sum[j] + simd_sum"),
    "totals not rescaled": ("thread_elements()[1] *= factor", "thread_elements()"),
    "rows as columns": ("lane / 2 % 4;", "lane % 4;"),
}


@pytest.mark.parametrize("mutation", WRONG)
def test_a_wrong_index_is_caught(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch, mutation: str
) -> None:
    with (
        mutated(monkeypatch, "prefill", *WRONG[mutation]),
        using("prefill", make=cpu().metal_kernel),
        pytest.raises(AssertionError),
    ):
        Case(35, 40, 30, heads=(4, 2)).check()


def test_views_are_not_copied(cpu: Cpu) -> None:
    """Neither a cache's slots nor heads that lie between one another."""
    asked: list[Any] = []

    def make(*arguments: Any, **options: Any) -> Any:
        asked.append(options["ensure_row_contiguous"])
        return cpu().metal_kernel(*arguments, **options)

    with using("prefill", make=make):
        Case(18, 3).check()
    assert asked == [False]


@pytest.mark.parametrize("window", [None, 5])
def test_gradients_are_the_plain_ones(cpu: Cpu, window: int | None) -> None:
    case = Case(19, 4, window, 8, dtype=mx.float32)
    arrays, factors = case.arrays(), random(4, (1, 2, 19, 8), mx.float32)

    def loss(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
        return (attend(queries, keys, values, case.mask) * factors).sum()

    gradients: Any = mx.grad(loss, argnums=(0, 1, 2))
    harness = cpu()
    with using("prefill", make=harness.metal_kernel):
        ours = gradients(*arrays)
    assert harness.launches == ["gemma4_prefill"]
    for a, b in zip(ours, gradients(*arrays), strict=True):
        assert float(mx.abs(b).max()) > 0.1
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_what_does_not_fit_falls_back(cpu: Cpu) -> None:
    harness = cpu()
    with using("prefill", make=harness.metal_kernel):
        for case in (Case(16), Case(17, dim=12), Case(17, dim=520)):
            arrays = case.arrays()
            assert attend(*arrays, case.mask).shape == arrays[0].shape
        queries, keys, values = Case(17).arrays()
        picture = mx.ones((1, 1, 17, 17), mx.bool_)
        attend(queries, keys, values, picture)
        attend(queries, keys, values, None)
        attend(queries.astype(mx.float32), keys, values, "causal")
    assert harness.launches == []


LAYERS = {"E2B": 10, "E4B": 12, "26B-A4B": 6, "31B": 6}


@pytest.mark.parametrize("variant", LAYERS)
def test_a_prompt_equals_the_plain_one(cpu: Cpu, variant: str) -> None:
    """Behind an earlier chunk; more queries than are masked by an array."""
    model, harness = tiny.build(variant, 7), cpu()
    tokens = mx.array([tiny.random_tokens(150, 6)])
    results = []
    for names in ((), ("prefill",)):
        cache = model.make_cache()
        model(tokens[:, :15], cache)
        with using(*names, make=harness.metal_kernel):
            results.append(model(tokens[:, 15:], cache))
    np.testing.assert_allclose(results[1], results[0], atol=1e-4)
    assert Counter(harness.launches) == {"gemma4_prefill": LAYERS[variant]}
