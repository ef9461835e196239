"""Several conversations in turn: each reads what is new in it, and none is wrong."""

import mlx.core as mx
import pytest

from mlx_gemma4 import load, stream_generate
from mlx_gemma4.decoding import prefix, prefixes
from mlx_gemma4.decoding.prefix import PrefixCache
from mlx_gemma4.decoding.prefixes import PrefixCaches
from mlx_gemma4.errors import CacheError
from mlx_gemma4.generation.answer import Response

SYSTEM = "Answer in a few words, and politely so, whatever it is that you are asked. "
CAPITALS = {"France": "Paris", "Spain": "Madrid", "Italy": "Rome"}


@pytest.fixture(autouse=True)
def few(monkeypatch) -> None:
    """So that short conversations do for the tests."""
    monkeypatch.setattr(prefixes, "FEW", 32)
    monkeypatch.setattr(prefixes, "HEADER", 4)


@pytest.fixture(scope="module")
def demo():
    return load("demo", dtype=mx.float32)


def asked(*texts: str, system: str = "") -> list[dict]:
    roles = ("user", "assistant") * len(texts)
    said = [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)]
    return [{"role": "system", "content": system}, *said] if system else said


def answer(demo, prefix, messages: list[dict]) -> Response:
    options = {"prefix": prefix, "temperature": 0, "max_tokens": 12}
    model, processor = demo
    return Response.of(stream_generate(model, processor, messages, **options))


@pytest.mark.slow
def test_two_conversations_in_turn(demo) -> None:
    caches = PrefixCaches(demo[0])
    first, second = asked("What is the capital of France?"), asked("Hello!")
    said = [answer(demo, caches, each) for each in (first, second)]
    for messages, before in zip((first, second), said, strict=True):
        more = [*messages, before.message(), *asked("What is the capital of Spain?")]
        now = answer(demo, caches, more)
        assert now.tokens == answer(demo, None, more).tokens
        assert before.stats and now.stats
        assert now.stats.cached_tokens >= before.stats.prompt_tokens


@pytest.mark.slow
def test_a_long_beginning_is_read_once_and_once_again(demo) -> None:
    """The second conversation shows what is shared; the third one has it."""
    caches, system = PrefixCaches(demo[0]), SYSTEM * 5
    texts = [f"What is the capital of {name}? " + "Please. " * 200 for name in CAPITALS]
    found = [answer(demo, caches, asked(text, system=system)) for text in texts]
    cached = [each.stats.cached_tokens for each in found if each.stats]
    assert cached[0] == cached[1] == 0 and cached[2] > 100
    fresh = answer(demo, None, asked(texts[2], system=system))
    assert found[2].tokens == fresh.tokens
    # The first goes on where it was.
    more = [*asked(texts[0], system=system), found[0].message(), *asked("Hello!")]
    again = answer(demo, caches, more)
    assert again.stats and found[0].stats
    assert again.stats.cached_tokens >= found[0].stats.prompt_tokens - 1
    assert again.tokens == answer(demo, None, more).tokens


@pytest.mark.slow
def test_the_oldest_gives_way(demo) -> None:
    caches = PrefixCaches(demo[0], most=2)
    asked_for = [asked(text) for text in ("Hello!", "Thank you.", "Good morning.")]
    for messages in asked_for:
        answer(demo, caches, messages)
    again = [answer(demo, caches, messages) for messages in reversed(asked_for)]
    cached = [each.stats.cached_tokens for each in again if each.stats]
    assert cached[0] > 8 and cached[1] > 8 and cached[2] < 8


def test_no_more_is_kept_than_there_is_room_for(demo) -> None:
    """One conversation is, however large it is."""
    caches = PrefixCaches(demo[0], most_bytes=0)
    one = answer(demo, caches, asked("Hello!"))
    answer(demo, caches, asked("What is the capital of France?"))
    assert len(caches._kept) == 1
    assert answer(demo, caches, asked("Hello!")).tokens == one.tokens


@pytest.mark.slow
def test_where_there_is_no_room_a_beginning_is_taken_over(demo) -> None:
    caches, system = PrefixCaches(demo[0], most_bytes=1), SYSTEM * 5
    for text in ("What is the capital of France?", "What is the capital of Italy?"):
        found = answer(demo, caches, asked(text, system=system))
        fresh = answer(demo, None, asked(text, system=system))
        assert found.tokens == fresh.tokens
    assert found.stats and found.stats.cached_tokens > 32
    assert len(caches._kept) == 1


@pytest.mark.slow
def test_a_branch_leaves_its_origin_as_it_is(demo) -> None:
    origin = PrefixCache(demo[0])
    messages = asked("What is the capital of France?")
    said = answer(demo, origin, messages)
    before = list(origin.tokens)
    other = origin.branch([*before[:-2], 7, 8])
    assert other is not None and other.tokens == before
    answer(demo, other, asked("What is the capital of Spain?"))
    assert origin.tokens == before
    more = [*messages, said.message(), *asked("And of Italy?")]
    assert answer(demo, origin, more).tokens == answer(demo, None, more).tokens


def test_another_model_s(demo) -> None:
    caches = PrefixCaches(demo[0])
    with pytest.raises(CacheError, match="another model"):
        answer(load("demo"), caches, asked("Hi"))


@pytest.mark.parametrize("length", [0, 1, prefix.BLOCK - 1, prefix.BLOCK, 2500])
def test_where_two_prompts_part(length: int) -> None:
    same = list(range(length))
    assert prefix._common(same, same) == length
    assert (
        prefix._common(same, [*same, 1]) == prefix._common([*same, 1], same) == length
    )
    assert prefix._common([*same, 1, 5], [*same, 2, 5]) == length
