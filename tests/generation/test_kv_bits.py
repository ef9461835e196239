"""Answers with full layers in 8 bits: whole runs, turns, and caches that are given."""

from typing import Any, ClassVar

import mlx.core as mx
import pytest
import tiny

from mlx_gemma4 import Chat, PrefixCache, PrefixCaches, generate, load
from mlx_gemma4.cache import packed
from mlx_gemma4.errors import CacheError, ChatError

DRAWN: dict[str, Any] = {"temperature": 1.0, "seed": 3, "max_tokens": 24}
pytestmark = pytest.mark.slow
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def demo() -> Any:
    return load("demo")


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "START", 8)


def test_a_run_is_that_of_the_model_on_such_a_cache(demo: Any) -> None:
    model, processor = demo
    answer = generate(
        model, processor, QUESTION, kv_bits=8, temperature=0, max_tokens=9
    )
    assert answer.stats is not None and answer.stats.kv_bits == 8
    tokens = processor([{"role": "user", "content": QUESTION}]).tokens[0].tolist()
    cache: Any = model.make_cache(kv_bits=8)
    found = []
    logits = model(mx.array([tokens]), cache)
    while len(found) < len(answer.tokens):
        found.append(int(logits[0, -1].argmax().item()))
        logits = model(mx.array([found[-1:]]), cache)
    assert found == answer.tokens
    plain = generate(model, processor, QUESTION, temperature=0, max_tokens=9)
    assert plain.stats is not None and plain.stats.kv_bits is None


def test_a_kept_beginning_changes_nothing(demo: Any) -> None:
    """Other questions behind it: as with nothing kept."""
    model, processor = demo
    prefix = PrefixCache(model, kv_bits=8)
    for seed in (1, 2, 1, 3):
        tail = tiny.random_tokens(9, seed, vocab=300)
        prompt = [*tiny.random_tokens(30, 7, vocab=300), *tail]
        asked: dict[str, Any] = {**DRAWN, "tokens": prompt, "stop_loops": False}
        ours = generate(model, processor, **asked, prefix=prefix)
        fresh = generate(model, processor, **asked, kv_bits=8)
        assert ours.tokens == fresh.tokens
        assert ours.stats is not None and ours.stats.kv_bits == 8


def test_drafts_change_nothing(demo: Any) -> None:
    said = [
        generate(demo[0], demo[1], QUESTION, draft=draft, kv_bits=8, **DRAWN).tokens
        for draft in ("off", "lookup")
    ]
    assert said[0] == said[1]


def test_a_chat_keeps_to_it(demo: Any) -> None:
    chat = Chat(demo[0], demo[1], kv_bits=8, **DRAWN)
    for question in (QUESTION, "And of Spain?"):
        answer = chat.ask(question)
        assert answer.stats is not None and answer.stats.kv_bits == 8
    assert answer.stats.cached_tokens > 0
    chat.options["kv_bits"] = None  # all is read again
    answer = chat.ask("And of Italy?")
    assert answer.stats is not None
    assert answer.stats.kv_bits is None and answer.stats.cached_tokens == 0


def test_a_chat_has_what_is_kept_of_its_kind(demo: Any) -> None:
    class Kept:
        looked: ClassVar[list[int | None]] = []

        def recall(self, prefix: PrefixCache, keys: Any, least: int = 1) -> bool:
            self.looked.append(prefix.kv_bits)
            return False

        def keep(self, prefix: PrefixCache, least: int, spare: bool = False) -> None:
            pass

    chat = Chat(demo[0], demo[1], kv_bits=8, temperature=0, max_tokens=1)
    chat.remember_in(Kept())
    chat.ask(QUESTION)
    assert Kept.looked == [8]


@pytest.mark.parametrize("kind", [PrefixCache, PrefixCaches])
def test_a_prefix_of_another_kind(
    demo: Any, kind: type[PrefixCache] | type[PrefixCaches]
) -> None:
    model, processor = demo
    empty = kind(model)  # nothing is lost
    asked: dict[str, Any] = {"temperature": 0, "max_tokens": 2}
    generate(model, processor, QUESTION, prefix=empty, kv_bits=8, **asked)
    assert empty.kv_bits == 8
    again = generate(model, processor, QUESTION, prefix=empty, **asked)
    assert again.stats is not None and again.stats.kv_bits == 8
    assert again.stats.cached_tokens > 0
    full = kind(model)
    generate(model, processor, QUESTION, prefix=full, **asked)
    with pytest.raises(CacheError, match=r"without kv_bits=8: .*PrefixCache"):
        generate(model, processor, QUESTION, prefix=full, kv_bits=8, **asked)
    assert full.kv_bits is None


def test_other_bits_are_refused_with_the_reason(demo: Any) -> None:
    for bits in (4, 16):
        with pytest.raises(ChatError, match=f"kv_bits is {bits}; .*25 % off"):
            generate(demo[0], demo[1], QUESTION, kv_bits=bits)
