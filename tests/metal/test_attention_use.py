"""Where the kernels of attention read, when they run, and their gradients."""

from dataclasses import replace
from importlib import import_module
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import tiny
from attention_cases import (
    EPS,
    Arrays,
    Case,
    attended,
    compare_raw,
    expected,
    found,
    held,
    turned,
)
from checks import Cpu, close, exact, random

from mlx_gemma4.cache import FullCache, Seen, SlidingCache
from mlx_gemma4.kernels import takes_raw, using
from mlx_gemma4.text.masks import Mask, band
from mlx_gemma4.text.scores import attend, attend_raw


def test_keys_that_no_cache_holds(cpu: Cpu) -> None:
    """As they are projected, with the heads of a position side by side."""
    shape = (1, 3, 2, 24)
    keys, values = (random(i, shape, mx.float32).transpose(0, 2, 1, 3) for i in (2, 3))
    arrays = Case(3, 3, dtype=mx.float32).arrays()[0], keys, values
    with using("attention", make=cpu().metal_kernel):
        close(attended(arrays, "causal"), expected(arrays, None))


def appended(
    cache: FullCache | SlidingCache, dtype: mx.Dtype, seed: int
) -> tuple[mx.array, Seen]:
    """A query of the last of ten positions, and what the cache hands out for it."""
    first, last = (random(seed + n, (1, 2, n, 24), dtype) for n in (9, 1))
    cache.append((first, -first))
    return random(seed, (1, 4, 1, 24), dtype), cache.append((last, -last))


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
@pytest.mark.parametrize("kind", ["full", "sliding"])
def test_a_cache_is_read_where_it_lies(cpu: Cpu, kind: str, dtype: mx.Dtype) -> None:
    """No copies are asked of MLX, and the kernel is given the buffers' own memory."""
    cache = FullCache() if kind == "full" else SlidingCache(8)
    harness, given = cpu(), list[mx.array]()

    def make(*arguments: Any, ensure_row_contiguous: bool, **options: Any) -> Any:
        assert not ensure_row_contiguous
        kernel = harness.metal_kernel(
            *arguments, ensure_row_contiguous=False, **options
        )

        def run(inputs: list[mx.array], **call: Any) -> list[mx.array]:
            given.extend(inputs[1:3])
            return kernel(inputs=inputs, **call)

        return run

    queries, seen = appended(cache, dtype, 9)
    with using("attention", make=make):
        ours = attend(queries, seen, None)
    whole = expected((queries, seen.keys, seen.values), None)
    close(ours.reshape(queries.shape), whole)
    (buffer,) = cache.state
    for view in given:
        ours, whole = memory(view), memory(buffer)
        assert np.shares_memory(ours, whole)
        assert ours.strides == whole.strides and ours.size < whole.size


def memory(x: mx.array) -> np.ndarray:
    """MLX's own, not a copy."""
    return np.asarray(x.view(mx.uint16) if x.dtype == mx.bfloat16 else x)


def test_the_cache_is_still_written_in_place() -> None:
    """What holds on to a view would make MLX copy the buffer at the next token."""

    def make(*_: Any, **__: Any) -> Any:
        def run(inputs: list[mx.array], output_shapes: Any, **_: Any) -> Any:
            return [mx.zeros(output_shapes[0]) + inputs[1].sum() + inputs[2].sum()]

        return run

    cache, places = FullCache(), set[int]()
    with using("attention", make=make):
        for seed in range(3):
            queries, seen = appended(cache, mx.float32, seed)
            mx.eval(attend(queries, seen, None))
            places.add(memory(cache.state[0]).ctypes.data)
            del queries, seen
    assert len(places) == 1


@pytest.mark.parametrize("raw", [False, True])
def test_gradients_are_the_plain_ones(cpu: Cpu, raw: bool) -> None:
    case = Case(3, 9, window=5, dtype=mx.float32)
    factors = random(4, (1, 3, 4 * 24), mx.float32)
    arrays = *case.arrays(), case.weight

    def loss(queries: mx.array, *others: mx.array) -> mx.array:
        keys, values, weight = others
        across = queries.transpose(0, 2, 1, 3)
        if raw:
            turn = weight, EPS, case.rotation
            found = attend_raw(across, *turn, held((keys, values)), case.mask)
        else:
            found = attend(queries, held((keys, values)), case.mask)
        return (found * factors).sum() + (weight**2).sum()

    gradients = mx.grad(loss, argnums=(0, 1, 2, 3))
    harness = cpu()
    with using("attention", make=harness.metal_kernel):
        ours = gradients(*arrays)
    assert harness.launches
    for a, b in zip(ours, gradients(*arrays), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


FIT = Case(3, 9, window=5)
MISFITS: dict[str, Case] = {
    "many rows": replace(FIT, rows=17, keys=17),
    "narrow heads": replace(FIT, dim=4),
    "wide heads": replace(FIT, dim=520),
}


def refuse(*_: object, **__: object) -> Any:
    raise AssertionError("a kernel was made")


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_does_not_fit_goes_the_plain_way(misfit: str) -> None:
    plain_way(MISFITS[misfit].arrays(), MISFITS[misfit].mask, MISFITS[misfit].window)


def test_other_masks_and_types_go_the_plain_way() -> None:
    """Pictures come with a mask array; a mask of None hides nothing from any row."""
    queries, keys, values = replace(FIT, dtype=mx.float32).arrays()
    every = mx.ones((1, 1, 3, 9), mx.bool_)
    causal = mx.tril(every, 6)
    plain_way((queries, keys, values), causal, None)
    with using("attention", make=refuse):
        seen = attended((queries, keys, values), None)
    np.testing.assert_allclose(
        seen, attended((queries, keys, values), every), atol=1e-6
    )
    others = keys.astype(mx.float16), values.astype(mx.float16)
    plain_way((queries, *others), band(3, 9, 5), 5)


def plain_way(arrays: Arrays, mask: Mask, window: int | None) -> None:
    with using("attention", make=refuse):
        ours = attended(arrays, mask)
    limit = 2e-2 * np.abs(expected(arrays, window)).max()
    np.testing.assert_allclose(exact(ours), expected(arrays, window), atol=limit)


# Heads, heads of keys, rows, elements, keys; and whether MLX has one launch for them.
SHAPES = {
    "a window": ((8, 1, 1, 256, 512), True),
    "a short draft": ((8, 1, 4, 256, 515), True),
    "a longer draft": ((8, 1, 5, 256, 516), False),
    "few keys of a wide head": ((8, 1, 1, 512, 1000), False),
    "many keys of a wide head": ((8, 1, 1, 512, 1024), True),
    "a draft over wide heads": ((8, 1, 2, 512, 1025), False),
    "other wide heads": ((8, 2, 1, 512, 1024), False),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_mlx_does_in_one_launch_is_left_to_it(shape: str) -> None:
    (heads, kv_heads, rows, dim, keys), left = SHAPES[shape]
    made = list[str]()

    def make(name: str, *_: Any, **__: Any) -> Any:
        def run(output_shapes: Any, **_: Any) -> list[mx.array]:
            made.append(name)
            return [mx.zeros(each) for each in output_shapes]

        return run

    queries = mx.zeros((1, heads, rows, dim))
    seen = Seen.all_of([mx.zeros((1, 2 * kv_heads, keys, dim))])
    with using("attention", make=make):
        attend(queries, seen, "causal" if rows > 1 else None)
    assert bool(made) != left


def test_raw_queries_that_do_not_fit_are_turned(cpu: Cpu) -> None:
    """By the kernel of heads, where that is on."""
    case = Case(3, 9, window=None, dtype=mx.float32)
    queries, keys, values = case.arrays()
    causal = mx.tril(mx.ones((1, 1, 3, 9), mx.bool_), 6)
    harness = cpu()
    with using("attention", "heads", make=harness.metal_kernel):
        turn = case.weight, EPS, case.rotation
        across = queries.transpose(0, 2, 1, 3)
        ours = attend_raw(across, *turn, held((keys, values)), causal)
    assert harness.launches == ["gemma4_heads_QUERIES"]
    expected = found(turned(exact(queries), case), exact(keys), exact(values), None)
    close(ours, expected.swapaxes(1, 2).reshape(ours.shape))


def test_which_queries_are_left_raw() -> None:
    real = 1, 8, 1, 256, mx.bfloat16
    assert not takes_raw(*real)
    with using("attention"):
        assert takes_raw(*real)
        for rows, heads, kv_heads, dim, dtype in (
            (17, 8, 1, 256, mx.bfloat16),
            (1, 8, 3, 256, mx.bfloat16),
            (1, 8, 1, 1024, mx.bfloat16),
            (1, 8, 1, 20, mx.bfloat16),
            (1, 8, 1, 256, mx.int32),
        ):
            assert not takes_raw(rows, heads, kv_heads, dim, dtype)


def test_slots_are_read_where_all_is_of_one_type() -> None:
    attention = tiny.build("E2B", 3).layers[-1].self_attn
    buffer = mx.zeros((1, 2 * attention.kv_heads, 16, attention.head_dim))
    others = buffer.astype(mx.bfloat16), mx.bfloat16
    assert not attention.reads_slots(1, buffer, mx.float32)
    with using("attention"):
        assert attention.reads_slots(1, buffer, mx.float32)
        assert not attention.reads_slots(1, others[0], mx.float32)
        assert not attention.reads_slots(1, *others)
        attention.q_norm.weight = attention.q_norm.weight.astype(mx.bfloat16)
        assert attention.reads_slots(1, *others)


def test_keys_that_the_record_leaves_out(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel is asked for by how many keys are seen, not held."""
    asked = list[str]()

    def enabled(name: str, case: str = "") -> bool:
        asked.append(case)
        return name == "attention"

    monkeypatch.setattr(
        import_module("mlx_gemma4.kernels.attention"), "enabled", enabled
    )
    with using("attention", make=cpu().metal_kernel):
        compare_raw(Case(1, 600, window=40))
        compare_raw(Case(1, 600))
    assert asked == ["24d 528 keys", "24d 528 keys", "24d 528 keys", "24d 4112 keys"]
