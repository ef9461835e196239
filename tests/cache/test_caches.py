"""The cache's contract: exact after anything, or refused with nothing changed."""

from dataclasses import dataclass, field
from typing import Any

import golden
import mlx.core as mx
import numpy as np
import pytest
import tiny

from mlx_gemma4 import cache as caches
from mlx_gemma4.cache import FullCache, SlidingCache, buffers
from mlx_gemma4.config import FULL, SLIDING
from mlx_gemma4.errors import CacheError
from mlx_gemma4.model import Gemma4

SEQUENCES = 500
VARIANTS = ("E2B", "E4B", "26B-A4B", "31B", "demo")
SMALL: dict[str, Any] = {"vocab_size": 96, "hidden_size": 16, "intermediate_size": 16}


def small(variant: str) -> Gemma4:
    """A variant cut to four layers, or three, that keeps its kinds of layers."""
    shared = tiny.config_dict(variant)["text_config"]["num_kv_shared_layers"]
    kinds = [SLIDING, FULL, SLIDING, FULL] if shared else [SLIDING, SLIDING, FULL]
    layers = {"layer_types": kinds, "num_hidden_layers": len(kinds)}
    layers["num_kv_shared_layers"] = 2 if shared else 0
    return tiny.build(variant, 7, **SMALL, **layers)


@dataclass
class Pinned:
    """A snapshot, what it stands for, and whether it must still hold."""

    snapshot: Any
    tokens: list[int]
    reach: int
    valid: bool = True


@dataclass
class Walk:
    """A cache beside the plain list of tokens that it should stand for.

    `reach` is the lowest length that a rollback must be able to go back to.
    """

    model: Gemma4
    slack: int
    draw: np.random.RandomState
    tokens: list[int] = field(default_factory=list)
    reach: int = 0
    pins: list[Pinned] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cache = caches.make_cache(self.model.config.text_config, self.slack)

    def count(self, what: str) -> None:
        self.done[what] = self.done.get(what, 0) + 1

    def append(self) -> None:
        """Reads a chunk and compares all of its logits with a fresh prefill's."""
        new = self.draw.randint(3, 64, self.draw.choice([1, 1, 2, 5, 9, 17, 30]))
        self.tokens += new.tolist()
        self.reach = max(self.reach, len(self.tokens) - self.slack)
        ours = tiny.logits(self.model, new.tolist(), self.cache)
        fresh = tiny.logits(self.model, self.tokens)[-len(new) :]
        golden.check_logits(ours, fresh)
        self.count("append")

    def rollback(self) -> None:
        n = int(self.draw.randint(0, min(len(self.tokens), 24) + 1))
        try:
            caches.rollback(self.cache, n)
        except CacheError:
            assert len(self.tokens) - n < self.reach, "this much must be possible"
            self.count("refused rollback")
            return
        self._now(self.tokens[: len(self.tokens) - n])
        self.count("rollback")

    def snapshot(self) -> None:
        pin = Pinned(caches.snapshot(self.cache), list(self.tokens), self.reach)
        self.pins.append(pin)
        self.count("snapshot")

    def restore(self) -> None:
        if not self.pins:
            return
        pin = self.pins[self.draw.randint(len(self.pins))]
        if not pin.valid:
            with pytest.raises(CacheError):
                caches.restore(self.cache, pin.snapshot)
            self.count("refused restore")
            return
        caches.restore(self.cache, pin.snapshot)
        self.reach = pin.reach
        self._now(pin.tokens)
        self.count("restore")

    def _now(self, tokens: list[int]) -> None:
        self.tokens = list(tokens)
        for pin in self.pins:
            pin.valid = pin.valid and len(pin.tokens) <= len(tokens)

    def check_offsets(self) -> None:
        assert {layer.offset for layer in self.cache} == {len(self.tokens)}

    def run(self, steps: int) -> None:
        self.append()
        actions = [self.append, self.rollback, self.snapshot, self.restore]
        for _ in range(steps):
            actions[self.draw.randint(len(actions))]()
            self.check_offsets()
        self.append()


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant",
    [pytest.param(v, marks=[pytest.mark.slow] * (v != "31B")) for v in VARIANTS],
)
def test_random_sequences(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, done = small(variant), dict[str, int]()
    runs = SEQUENCES // len(VARIANTS)
    for seed in range(runs):
        draw = np.random.RandomState(1000 * VARIANTS.index(variant) + seed)
        # Small buffers, so that windows wrap and grow within a few dozen tokens.
        monkeypatch.setattr(buffers, "STEP", int(draw.choice([4, 16, 256])))
        walk = Walk(model, int(draw.choice([0, 3, 8, 20])), draw)
        walk.run(steps=8)
        for what, n in walk.done.items():
            done[what] = done.get(what, 0) + n
    # The sequences must have reached every outcome, or the test shows nothing.
    assert done["append"] > 3 * runs
    for what in ("rollback", "snapshot", "restore"):
        assert done[what] > runs // 2, done
    for what in ("refused rollback", "refused restore"):
        assert done[what] > runs // 20, done


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("first", [10, 300, 700])
def test_real_buffer_sizes(variant: str, first: int) -> None:
    """Long prompts, more than a buffer in one call, and the whole slack taken back."""
    model = small(variant)
    tokens = tiny.random_tokens(first + 420, 1, vocab=64)
    cache = model.make_cache()
    model(mx.array([tokens[:first]]), cache)
    model(mx.array([tokens[first:-20]]), cache)
    model(mx.array([tokens[-20:]]), cache)
    caches.rollback(cache, caches.SLACK)
    kept = tokens[: -caches.SLACK]
    ours = tiny.logits(model, [9, 8, 7], cache)
    golden.check_logits(ours, tiny.logits(model, [*kept, 9, 8, 7])[-3:])


def state(cache: list[Any]) -> list[Any]:
    return [(layer.offset, layer.most_rollback, layer.nbytes) for layer in cache]


def filled(
    variant: str = "demo", length: int = 40, slack: int = 5
) -> tuple[Gemma4, list[Any], list[int]]:
    model = small(variant)
    cache: list[Any] = caches.make_cache(model.config.text_config, slack)
    tokens = tiny.random_tokens(length, 3, vocab=64)
    for token in tokens:  # one by one, so that the sliding layers let go
        model(mx.array([[token]]), cache)
    return model, cache, tokens


@pytest.mark.slow
@pytest.mark.parametrize("n", [-1, 41, 10_000])
def test_impossible_rollbacks_change_nothing(n: int) -> None:
    model, cache, tokens = filled()
    before = state(cache)
    with pytest.raises(CacheError, match="take back"):
        caches.rollback(cache, n)
    assert state(cache) == before
    ours = tiny.logits(model, [5], cache)
    golden.check_logits(ours, tiny.logits(model, [*tokens, 5])[-1:])


def test_rollback_past_the_slack_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "STEP", 4)
    _, cache, _ = filled(slack=5)
    most = caches.most_rollback(cache)
    assert 5 <= most < 40
    with pytest.raises(CacheError):
        caches.rollback(cache, most + 1)
    caches.rollback(cache, most)


def test_a_full_layer_alone_takes_everything_back() -> None:
    cache = FullCache()
    cache.update_and_fetch(mx.zeros((1, 1, 30, 4)), mx.zeros((1, 1, 30, 4)))
    caches.rollback([cache], 30)
    assert cache.offset == 0


@pytest.mark.slow
def test_overtaken_snapshot_is_refused() -> None:
    model, cache, tokens = filled()
    pinned = caches.snapshot(cache)
    caches.rollback(cache, 2)
    model(mx.array([[5, 6, 7]]), cache)
    before = state(cache)
    with pytest.raises(CacheError, match="snapshot"):
        caches.restore(cache, pinned)
    assert state(cache) == before
    ours = tiny.logits(model, [8], cache)
    golden.check_logits(ours, tiny.logits(model, [*tokens[:-2], 5, 6, 7, 8])[-1:])


def test_a_snapshot_can_be_restored_again_and_again() -> None:
    model, cache, tokens = filled()
    pinned = caches.snapshot(cache)
    for tail in ([5, 6], tiny.random_tokens(30, 4, vocab=64), [7]):
        ours = tiny.logits(model, tail, cache)
        golden.check_logits(ours, tiny.logits(model, [*tokens, *tail])[-len(tail) :])
        caches.restore(cache, pinned)


@pytest.mark.slow
def test_what_follows_a_restore_is_not_written_into_the_snapshot() -> None:
    cache = SlidingCache(window=8, slack=buffers.STEP)
    old = mx.random.normal((1, 1, 2 * buffers.STEP, 4))
    cache.update_and_fetch(old, old)
    pinned = cache.snapshot()
    assert pinned.held.buffer is not None
    before = np.array(pinned.held.buffer)
    cache.restore(pinned)
    cache.trim(3)
    mx.eval(cache.update_and_fetch(mx.ones((1, 1, 1, 4)), mx.ones((1, 1, 1, 4))))
    assert np.array_equal(pinned.held.buffer, before)


def test_a_snapshot_of_the_empty_cache() -> None:
    model = small("demo")
    cache = model.make_cache()
    pinned = caches.snapshot(cache)
    model(mx.array([tiny.random_tokens(20, 1, vocab=64)]), cache)
    caches.restore(cache, pinned)
    golden.check_logits(tiny.logits(model, [5, 6], cache), tiny.logits(model, [5, 6]))


def test_a_snapshot_of_another_conversation_is_refused() -> None:
    model, cache, _ = filled()
    other = model.make_cache()
    model(mx.array([tiny.random_tokens(12, 9, vocab=64)]), other)
    before = state(cache)
    with pytest.raises(CacheError):
        caches.restore(cache, caches.snapshot(other))
    assert state(cache) == before


def test_sliding_memory_is_bounded() -> None:
    """The buffer never exceeds window, slack and one step, however long the chat."""
    sliding, full = SlidingCache(window=8, slack=16), FullCache()
    sizes = []
    for length in (5, 700, 1, 1, 300, 2000, 1):
        kv = mx.zeros((1, 1, length, 4))
        for layer in (sliding, full):
            mx.eval(layer.update_and_fetch(kv, kv))
        sizes.append(sliding.nbytes // (2 * 4 * 4))
    assert max(sizes) <= 7 + 16 + buffers.STEP
    assert full.nbytes >= 3008 * 2 * 4 * 4


def test_a_snapshot_holds_no_more_than_window_and_slack() -> None:
    _, cache, _ = filled(length=40, slack=5)
    for layer, part in zip(cache, caches.snapshot(cache), strict=True):
        if isinstance(layer, SlidingCache):
            assert part.held.buffer is not None
            assert part.held.buffer.shape[2] == tiny.WINDOW - 1 + 5
        else:
            assert part.held.buffer is None


@pytest.mark.slow
@pytest.mark.parametrize("length", [4, 12, 40])
def test_the_reach_of_a_snapshot_is_true(length: int) -> None:
    model, cache, tokens = filled(length=length)
    pinned = caches.snapshot(cache)
    reach = caches.snapshot_reach(pinned)
    # Up to window - 1 + slack tokens a snapshot holds the whole conversation.
    assert reach == (0 if length <= 12 else length - 5)
    model(mx.array([tiny.random_tokens(300, 4, vocab=64)]), cache)
    caches.restore(cache, pinned)
    if reach:
        with pytest.raises(CacheError):
            caches.rollback(cache, length - reach + 1)
    caches.rollback(cache, length - reach)
    ours = tiny.logits(model, [5], cache)
    golden.check_logits(ours, tiny.logits(model, [*tokens[:reach], 5])[-1:])


def test_mlx_lm_s_names() -> None:
    """What mlx-lm's generation loop asks of a cache."""
    _, cache, _ = filled(length=10)
    for layer in cache:
        assert layer.offset == 10
        assert layer.is_trimmable() and not layer.empty()
        assert len(layer.state) == 1
        assert layer.trim(3) == 3 and layer.offset == 7
