"""Full layers in 8 bits: what they hold depends on the tokens alone, and attention to
it is that to what it stands for."""

from collections.abc import Iterator
from typing import Any

import golden
import mlx.core as mx
import numpy as np
import pytest
import tiny

from mlx_gemma4 import cache as caches
from mlx_gemma4.cache import FullCache, NewKeysValues, PackedSeen, Seen, buffers, packed
from mlx_gemma4.config import FULL, SLIDING
from mlx_gemma4.errors import CacheError, ChatError
from mlx_gemma4.model import Gemma4
from mlx_gemma4.text import packed as attention

START, STEP = 12, 8
# More than logits change where one element is packed into the next number, which
# chunks may round it to; packing itself changes them by four times as much.
ONE_NUMBER = 0.01
VARIANTS = ("E2B", "E4B", "26B-A4B", "31B", "12B")


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within a few tokens: the first that is packed, growth, blocks of queries."""
    monkeypatch.setattr(packed, "START", START)
    monkeypatch.setattr(buffers, "STEP", STEP)
    monkeypatch.setattr(attention, "MOST_SCORES", 600)
    monkeypatch.setattr(attention, "ROWS", 1)
    yield


def small(variant: str, **text: Any) -> Gemma4:
    """A variant cut to a few layers, one of them packed. Others behind it would get
    what differs in the last bit, and now and then pack it into the next number."""
    shared = tiny.config_dict(variant)["text_config"]["num_kv_shared_layers"]
    kinds = [SLIDING, FULL, SLIDING, FULL] if shared else [SLIDING, SLIDING, FULL]
    layers = {"layer_types": kinds, "num_hidden_layers": len(kinds)}
    layers["num_kv_shared_layers"] = 2 if shared else 0
    sizes = {"vocab_size": 96, "hidden_size": 32, "global_head_dim": 64}
    return tiny.build(variant, 7, **{**sizes, **layers, **text})


class Reference(FullCache):
    """Packs and unpacks what stands behind START, and keeps all of it in float."""

    def append(self, new: NewKeysValues) -> Seen:
        offset, parts = self.offset, []
        for x in new:
            behind = mx.arange(offset, offset + x.shape[2]) >= START
            words = mx.quantize(x, 64, 8)
            parts.append(mx.where(behind[:, None], mx.dequantize(*words, 64, 8), x))
        return super().append(parts)


def in_chunks(model: Gemma4, cache: Any, tokens: list[int], *sizes: int) -> np.ndarray:
    rows, start = [], 0
    for size in (*sizes, len(tokens) - sum(sizes)):
        rows.append(tiny.logits(model, tokens[start : start + size], cache))
        start += size
    return np.concatenate(rows)


def arrays(cache: Any) -> list[np.ndarray]:
    """What is held of the positions that count."""
    found = []
    for layer in cache:
        seen = layer.newest()
        parts = [seen.keys, seen.values]
        if isinstance(seen, PackedSeen):
            parts += [x for half in seen.packed(seen.count) for x in half]
        found += [np.array(part) for part in parts]
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_those_of_what_was_packed(variant: str) -> None:
    model = small(variant)
    tokens = tiny.random_tokens(50, 1, vocab=64)
    config = model.config.text_config
    plain: list[Any] = [
        layer if isinstance(layer, caches.SlidingCache) else Reference()
        for layer in caches.make_cache(config)
    ]
    ours = in_chunks(model, model.make_cache(kv_bits=8), tokens, 9, 1, 1, 1, 1, 20)
    golden.check_logits(ours, in_chunks(model, plain, tokens, 9, 1, 1, 1, 1, 20))
    # It makes a difference, which is small.
    without = tiny.logits(model, tokens)
    assert np.abs(ours - without)[: START - 1].max() < 1e-4
    assert 1e-5 < np.abs(ours - without).max() < 0.5


@pytest.mark.parametrize("sizes", [(), (12,), (13,), (30, 1, 1), (1, 5, 6, 1, 2, 17)])
@pytest.mark.parametrize("variant", ["E2B", "31B"])
def test_any_chunking_is_the_same(variant: str, sizes: tuple[int, ...]) -> None:
    model = small(variant)
    tokens = tiny.random_tokens(44, 2, vocab=64)
    whole = in_chunks(model, model.make_cache(kv_bits=8), tokens, 11, 11)
    ours = in_chunks(model, model.make_cache(kv_bits=8), tokens, *sizes)
    assert np.abs(ours - whole).max() < ONE_NUMBER


def test_only_the_last_position_of_a_prompt() -> None:
    for variant in ("E2B", "31B"):
        model, tokens = small(variant), tiny.random_tokens(40, 2, vocab=64)
        whole = tiny.logits(model, tokens, model.make_cache(kv_bits=8))
        last = model(mx.array([tokens]), model.make_cache(kv_bits=8), last_only=True)
        assert np.abs(np.array(last[0]) - whole[-1:]).max() < ONE_NUMBER


@pytest.mark.parametrize("kept", [5, START, START + 1, 21])
def test_what_was_taken_back_leaves_nothing_behind(kept: int) -> None:
    """To the bit: the same calls give the same arrays, whatever stood there before."""
    model = small("31B")
    first, other = (tiny.random_tokens(30, seed, vocab=64) for seed in (1, 2))
    tokens = [*first[:kept], *other[kept:]]
    cache = caches.make_cache(model.config.text_config, 64, kv_bits=8)
    in_chunks(model, cache, first, kept)
    caches.rollback(cache, len(first) - kept)
    ours = tiny.logits(model, tokens[kept:], cache)
    fresh = caches.make_cache(model.config.text_config, 64, kv_bits=8)
    plain = in_chunks(model, fresh, tokens, kept)[kept:]
    assert np.array_equal(ours, plain)
    for a, b in zip(arrays(cache), arrays(fresh), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("at", [4, START, 20])
def test_snapshots_and_copies(at: int) -> None:
    model = small("E2B")
    tokens, tail = (tiny.random_tokens(n, n, vocab=64) for n in (at, 9))
    cache: Any = model.make_cache(kv_bits=8)
    tiny.logits(model, tokens, cache)
    pinned = caches.snapshot(cache)
    before = arrays(cache)
    tiny.logits(model, tiny.random_tokens(25, 5, vocab=64), cache)
    other = caches.copied(cache, pinned)
    caches.restore(cache, pinned)
    for a, b, c in zip(arrays(cache), before, arrays(other), strict=True):
        assert np.array_equal(a, b) and np.array_equal(b, c)
    ours = [tiny.logits(model, tail, each) for each in (cache, other)]
    assert np.array_equal(*ours)
    fresh = in_chunks(model, model.make_cache(kv_bits=8), [*tokens, *tail], at)
    assert np.abs(ours[0] - fresh[at:]).max() < ONE_NUMBER


def test_a_copy_goes_its_own_way() -> None:
    model, tokens = small("31B"), tiny.random_tokens(20, 1, vocab=64)
    cache: Any = model.make_cache(kv_bits=8)
    tiny.logits(model, tokens, cache)
    before = arrays(cache)
    other = caches.copied(cache, None)
    caches.rollback(other, 5)
    tiny.logits(model, [1, 2, 3, 4, 5], other)
    for a, b in zip(arrays(cache), before, strict=True):
        assert np.array_equal(a, b)


def test_an_overtaken_snapshot_is_refused() -> None:
    model = small("31B")
    cache = model.make_cache(kv_bits=8)
    tiny.logits(model, tiny.random_tokens(20, 1, vocab=64), cache)
    pinned = caches.snapshot(cache)
    caches.rollback(cache, 3)
    tiny.logits(model, [5, 6, 7], cache)
    with pytest.raises(CacheError):
        caches.restore(cache, pinned)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_what_it_takes(dtype: mx.Dtype) -> None:
    """A byte for each element, and a scale and a bias for each 64."""
    sizes = []
    for bits in (None, 8):
        cache = FullCache(bits)
        kv = mx.zeros((1, 2, START + 5 * STEP, 128), dtype)
        cache.update_and_fetch(kv, kv)
        mx.eval(cache.state)
        sizes.append(cache.nbytes)
    plain, ours = sizes
    elements, size = 2 * 2 * 128, dtype.size
    slots = -(-(START + 5 * STEP) // STEP) * STEP
    assert plain == elements * size * slots
    behind = elements * 5 * STEP
    assert ours == elements * size * START + behind + 2 * size * behind // 64


def test_a_batch_of_rows() -> None:
    model = small("26B-A4B")
    rows = [tiny.random_tokens(30, seed, vocab=64) for seed in (1, 2)]
    both = model(mx.array(rows), model.make_cache(kv_bits=8))
    for row, found in zip(rows, both, strict=True):
        one = tiny.logits(model, row, model.make_cache(kv_bits=8))
        assert np.abs(np.array(found) - one).max() < ONE_NUMBER


def test_heads_of_32() -> None:
    model = small("31B", global_head_dim=32)
    tokens = tiny.random_tokens(40, 1, vocab=64)
    ours = in_chunks(model, model.make_cache(kv_bits=8), tokens, 20)
    assert 1e-6 < np.abs(ours - tiny.logits(model, tokens)).max() < 0.5


def test_what_cannot_be_had_is_refused() -> None:
    with pytest.raises(ChatError, match="kv_bits is 4; it must be 8"):
        small("31B").make_cache(kv_bits=4)
    model = small("31B", global_head_dim=16)
    with pytest.raises(ChatError, match="multiple of 32 elements; .* have 16"):
        model.make_cache(kv_bits=8)
    model.make_cache(kv_bits=None)


def test_bfloat16_scores_are_not_rounded() -> None:
    """Near what float64 makes of the same bytes; rounded scores lie far from it."""
    mx.random.seed(1)
    cache, shape = FullCache(8), (1, 2, 300, 64)
    keys, values = (mx.random.normal(shape).astype(mx.bfloat16) for _ in range(2))
    seen = cache.append((keys, values))
    assert isinstance(seen, PackedSeen)
    queries = (2 * mx.random.normal((1, 4, 1, 64))).astype(mx.bfloat16)
    ours = attention.attend_packed(queries, seen, causal=False)
    assert ours.dtype == mx.bfloat16
    q, k, v = (
        np.array(x.astype(mx.float32)).astype(np.float64)
        for x in (queries, seen.keys, seen.values)
    )
    scores = q.reshape(1, 2, 2, 64) @ k.swapaxes(2, 3)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    wanted = (shares @ v / shares.sum(axis=-1, keepdims=True)).reshape(1, 4, 1, 64)
    off = np.abs(np.array(ours.astype(mx.float32)) - wanted).max()
    assert off < 0.02 * np.abs(wanted).max()
