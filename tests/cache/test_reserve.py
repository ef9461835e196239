"""Room for a whole prompt, had at once: what is held stays what it was."""

from collections.abc import Iterator

import mlx.core as mx
import numpy as np
import pytest
import tiny

from mlx_gemma4.cache import FullCache, LayerCache, buffers, packed, reserve
from mlx_gemma4.decoding.prefill import Prompt, prefill
from mlx_gemma4.decoding.prefix import PrefixCache
from mlx_gemma4.model import Gemma4

STEP, START = 8, 12


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(buffers, "STEP", STEP)
    monkeypatch.setattr(packed, "START", START)
    yield


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Slots of the buffers that were waited for when something had to grow."""
    seen: list[int] = []
    monkeypatch.setattr(buffers.mx, "eval", lambda x: seen.append(x.shape[2]))
    monkeypatch.setattr(buffers, "LARGE", 1)
    return seen


def part(count: int, first: int = 0) -> mx.array:
    places = mx.arange(first, first + count, dtype=mx.float32)
    return mx.broadcast_to(places[:, None], (1, 1, count, 64))


def slots(cache: FullCache) -> list[int]:
    return [array.shape[2] for array in cache.state]


@pytest.mark.parametrize(("bits", "expected"), [(None, [40]), (8, [START, 24, 24, 24])])
def test_room_is_had_at_once(
    bits: int | None, expected: list[int], waited: list[int]
) -> None:
    cache, plain = FullCache(bits), FullCache(bits)
    reserve([cache], 36)
    start = 0
    for count in (14, 1, 20, 1):
        new = part(count, start)
        ours, other = (each.append((new, new)) for each in (cache, plain))
        assert slots(cache) == expected
        assert mx.array_equal(ours.keys, other.keys)
        start += count
    assert len(waited) == len(slots(plain)) - (bits is not None)  # of the plain one
    waited.clear()
    for _ in range(5):
        cache.append((part(1), part(1)))
    assert set(waited) == {expected[-1] + STEP}  # one by one again


def test_less_is_reserved_for_a_shorter_prompt() -> None:
    cache: list[LayerCache] = [FullCache()]
    reserve(cache, 100)
    reserve(cache, 10)
    cache[0].append((part(3), part(3)))
    assert cache[0].state[0].shape[2] == 16


def read(model: Gemma4, tokens: list[int], prefix: PrefixCache) -> np.ndarray:
    prompt, start = Prompt(tokens, (), tokens), prefix.reuse(tokens)
    logits, _ = prefill(model, prompt, prefix, start, 10)
    return np.array(logits)


@pytest.mark.parametrize("bits", [None, 8])
def test_a_prompt_has_its_room(bits: int | None) -> None:
    model = tiny.build("31B", 3, global_head_dim=64)
    prefix = PrefixCache(model, kv_bits=bits)
    full = [layer for layer in prefix.cache if isinstance(layer, FullCache)]
    first, other = (tiny.random_tokens(n, n, vocab=64) for n in (44, 70))
    second = [*first[:30], *other]
    for tokens in (first, second):  # which takes the first's end back
        found = read(model, tokens, prefix)
        room = -(-(len(tokens) - (START if bits else 0)) // STEP) * STEP
        assert {slots(layer)[-1] for layer in full} == {room}
        np.testing.assert_allclose(
            found, read(model, tokens, PrefixCache(model, kv_bits=bits)), atol=1e-2
        )
