"""Which drafts are asked for, and what becomes of them."""

import copy
from typing import Any

import mlx.core as mx
import pytest
from drafting import Kind, Pair, Proposer, pair

from mlx_gemma4 import PrefixCache, generate, stream_generate
from mlx_gemma4.cache import FullCache
from mlx_gemma4.decoding.drafts import Drafts, drafts_for
from mlx_gemma4.errors import ChatError

TOKENS = [2, 9, 8, 7, 9, 8, 7, 9, 8]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Pair:
    found = pair("E2B")
    monkeypatch.setattr(found.model, "drafter", None)
    return found


def proposer(kind: Kind = Kind.RANDOM) -> Any:
    return Proposer(kind, [], 0, [1])


def test_none_is_off_without_a_drafter_and_auto_with_one(asked: Pair) -> None:
    assert drafts_for(asked.model, None, (), TOKENS) is None
    assert drafts_for(asked.model, "off", (), TOKENS) is None
    asked.model.drafter = proposer()
    assert isinstance(drafts_for(asked.model, None, (), TOKENS), Drafts)
    assert drafts_for(asked.model, "off", (), TOKENS) is None


def test_what_cannot_be_drafted_is_told_before_anything_is_read(asked: Pair) -> None:
    with pytest.raises(ChatError, match="without a drafter"):
        generate(asked.model, asked.processor, "Hi", draft="assistant")
    wrong: Any = "fast"
    with pytest.raises(ChatError, match="draft is 'fast'; it must be one of auto"):
        generate(asked.model, asked.processor, "Hi", draft=wrong)


def test_what_was_learned_stays_with_the_model_but_not_with_a_copy(asked: Pair) -> None:
    first, again = (drafts_for(asked.model, "auto", (), TOKENS) for _ in range(2))
    assert first and again and first._pace is again._pace
    other = drafts_for(copy.deepcopy(asked.model), "auto", (), TOKENS)
    assert other and other._pace is not first._pace


def test_lookup_finds_what_the_prompt_says_and_counts_it(asked: Pair) -> None:
    options: dict[str, Any] = {"tokens": TOKENS, "max_tokens": 12, "temperature": 0}
    bias: dict[int, float] = {7: 40.0, 8: 40.0, 9: 40.0}
    found = generate(
        asked.model, asked.processor, draft="lookup", logit_bias=bias, **options
    )
    stats = found.stats
    assert stats is not None and 0 <= stats.accepted <= stats.drafted > 0
    plain = generate(asked.model, asked.processor, logit_bias=bias, **options)
    assert plain.tokens == found.tokens
    assert plain.stats is not None and plain.stats.drafted == 0


def test_an_answer_that_was_left_open_does_not_harm_the_next(asked: Pair) -> None:
    """Its caches were begun anew by another one when it is let go."""
    model, processor = asked.model, asked.processor
    options: dict[str, Any] = {"tokens": TOKENS, "max_tokens": 20, "seed": 4}
    expected = generate(model, processor, **options).tokens
    model.drafter = proposer()
    prefix = PrefixCache(model)
    with pytest.MonkeyPatch.context() as patch:
        drafts = mx.array([expected[1:5]])
        patch.setattr(Proposer, "propose", lambda *_: drafts)
        open_one = stream_generate(
            model, processor, **options, prefix=prefix, draft="assistant"
        )
        next(open_one)
        assert prefix.cache[0].offset > len(prefix.tokens)  # in a round
        second = stream_generate(
            model, processor, **options, prefix=prefix, draft="off"
        )
        found = [next(second).token, next(second).token]
        del open_one
        found += [chunk.token for chunk in second]
    assert found == expected
    assert prefix.cache[0].offset == len(prefix.tokens)


def test_an_interrupt_while_drafts_are_taken_back_is_noticed(
    asked: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind it some layers hold rejected drafts and others do not."""
    model, processor = asked.model, asked.processor
    options: dict[str, Any] = {"max_tokens": 6, "temperature": 0}
    prefix, taken_back = PrefixCache(model), FullCache.trim

    def interrupted(cache: FullCache, n: int) -> int:
        if n:
            raise KeyboardInterrupt
        return taken_back(cache, n)

    model.drafter = proposer(Kind.LATE)
    monkeypatch.setattr(Proposer, "propose", lambda *_: mx.array([[600, 601]]))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FullCache, "trim", interrupted)
        generate(
            model,
            processor,
            tokens=TOKENS,
            **options,
            prefix=prefix,
            draft="assistant",
        )
    assert len({layer.offset for layer in prefix.cache}) == 2
    tokens = [*prefix.tokens, 5, 6]
    plain = generate(model, processor, tokens=tokens, **options, draft="off")
    found = generate(
        model, processor, tokens=tokens, **options, prefix=prefix, draft="off"
    )
    assert found.tokens == plain.tokens
    assert found.stats is not None and found.stats.cached_tokens == 0
