"""A prompt is read in chunks, and layer by layer, so that Ctrl-C ends it at any."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import tiny

from mlx_gemma4 import PrefixCache
from mlx_gemma4.decoding.prefill import Prompt, prefill, reading, step_for

TOKENS = tiny.random_tokens(90, 5)
STEP = 40  # chunks of 40, 40 and 10: the last is short


class Evaluations:
    """What is computed and waited for while a prompt is read, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int = 10**9):
        self.seen: list[tuple[str, list[int]]] = []
        for name in ("async_eval", "eval"):
            self._watch(monkeypatch, name, most)

    def _watch(self, monkeypatch: pytest.MonkeyPatch, name: str, most: int) -> None:
        real = getattr(mx, name)

        def watched(arrays: Any) -> None:
            if len(self.seen) >= most:
                raise KeyboardInterrupt
            self.seen.append((name, [id(array) for array in arrays]))
            real(*arrays)

        monkeypatch.setattr(mx, name, watched)


def read(model: Any, prefix: PrefixCache, step: int = STEP) -> np.ndarray:
    prompt = Prompt(TOKENS, (), TOKENS)
    logits, _ = prefill(model, prompt, prefix, prefix.reuse(TOKENS), step)
    return np.array(logits)[0, 0]


@pytest.mark.parametrize("variant", ["E2B", "26B-A4B"])
def test_each_layer_is_waited_for_while_the_next_runs(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.build(variant, 3)
    prefix = PrefixCache(model)
    with monkeypatch.context() as patch:
        seen = Evaluations(patch).seen
        read(model, prefix)
    started = [arrays for name, arrays in seen if name == "async_eval"]
    waited = [arrays for name, arrays in seen if name == "eval"]
    assert [name for name, _ in seen[:4]] == ["async_eval", "eval"] * 2
    assert len(started) == 2 * len(prefix.cache)  # the short end needs no pauses
    assert all(len(arrays) == len(prefix.cache[0].state) for arrays in started)
    assert waited == [[], *started[:-1]]


@pytest.mark.slow
@pytest.mark.parametrize("most", [0, 1, 2, 9, 13])
def test_after_ctrl_c_the_prompt_is_read_as_if_nothing_had_been(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.build("E2B", 3)
    prefix = PrefixCache(model)
    with monkeypatch.context() as patch:
        Evaluations(patch, most)
        with pytest.raises(KeyboardInterrupt):
            read(model, prefix)
    fresh = tiny.logits(model, TOKENS)[-1]
    np.testing.assert_allclose(read(model, prefix), fresh, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("metal", "steps"), [(True, (1024, 2048)), (False, (1024,) * 2)]
)
def test_experts_get_more_rows_on_a_gpu(
    metal: bool, steps: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [tiny.build(variant, 3) for variant in ("E2B", "26B-A4B")]
    monkeypatch.setattr(mx.metal, "is_available", lambda: metal)
    assert tuple(step_for(model) for model in models) == steps


def test_progress_is_told_and_can_end_it() -> None:
    """What was read until then counts, and the answer is as if nothing had been."""
    model = tiny.build("E2B", 3)
    told: list[tuple[int, int]] = []
    whole, prefix = PrefixCache(model), PrefixCache(model)
    expected = read(model, whole)
    prompt = Prompt(TOKENS, (), TOKENS)

    def stop(count: int, of: int) -> None:
        told.append((count, of))
        if count == 2 * STEP:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        prefill(model, prompt, prefix, 0, STEP, stop)
    assert told == [(0, 90), (40, 90), (80, 90)]
    assert prefix.reuse(TOKENS) == 80
    rest, _ = prefill(model, prompt, prefix, 80, STEP)
    assert np.array_equal(np.array(rest)[0, 0], expected)


def test_a_pin_where_others_begin_alike() -> None:
    model = tiny.build("E2B", 3)
    prefix = PrefixCache(model, shared=30)
    read(model, prefix)
    other = [*TOKENS[:30], *TOKENS[40:]]
    branch = prefix.branch(other)
    assert branch is not None and branch.reuse(other) == 30
    prompt = Prompt(other, (), other)
    found, fresh = (
        np.array(prefill(model, prompt, cache, start, STEP)[0])
        for cache, start in ((branch, 30), (PrefixCache(model), 0))
    )
    assert np.abs(found - fresh).max() < 1e-4


def test_a_pause_keeps_the_caches_alone() -> None:
    """Not what the part before it would have been made of: others go on meanwhile."""
    model = tiny.build("E2B", 3, hidden_size_per_layer_input=64)
    prefix, tokens = PrefixCache(model), [3] * 1200
    mx.eval(model.parameters())
    before = mx.get_active_memory()
    steps = reading(model, Prompt(tokens, (), tokens), prefix, 0, 500)
    for _ in range(2):
        next(steps)
        mx.synchronize()
        more = mx.get_active_memory() - before - prefix.nbytes
        assert more < 500 * 64 * 4  # less than one layer's inputs
