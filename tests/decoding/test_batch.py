"""Rows of a batch are what they would be alone, whoever else comes and goes."""

from collections.abc import Iterator

import mlx.core as mx
import numpy as np
import pytest
import tiny
from drafting import pair
from together import ids, one_by_one, ragged, seen, together

from mlx_gemma4 import Batch, Chunk, PrefixCache, PrefixCaches, stream_generate
from mlx_gemma4.cache import copied
from mlx_gemma4.cache.packed import START
from mlx_gemma4.decoding.step import DecodingStep, step_of, together_of
from mlx_gemma4.errors import CacheError, ChatError, RoomError

ASKED = {"temperature": 0, "seed": 1, "max_tokens": 12, "prefill_step": 16}


DEAR = [pytest.param(v, marks=pytest.mark.slow) for v in ("E4B", "12B", "31B")]


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["E2B", "26B-A4B", *DEAR])
def test_a_step_of_several_equals_theirs(variant: str) -> None:
    model = tiny.build(variant, 3)
    tokens, caches = ragged(model, [1, 5, 8, 19, 300])
    alone = [copied(cache, None) for cache in caches]
    for _ in range(3):
        logits, hidden = together_of(model)(tokens, caches)
        for i, cache in enumerate(alone):
            one, h = step_of(model)(tokens[i : i + 1], cache)
            np.testing.assert_allclose(logits[i : i + 1], one, rtol=0, atol=2e-5)
            np.testing.assert_allclose(hidden[i : i + 1], h, rtol=0, atol=2e-5)
        tokens = mx.argmax(logits[:, -1], axis=-1, keepdims=True)


@pytest.mark.slow
def test_a_compiled_step_of_several() -> None:
    model = tiny.build("E2B", 3)
    tokens, caches = ragged(model, [3, 30])
    other = [copied(cache, None) for cache in caches]
    compiled, _ = DecodingStep(model).together(tokens, caches)
    plain, _ = together_of(model)(tokens, other)
    np.testing.assert_allclose(compiled, plain, rtol=0, atol=2e-5)


def test_rows_come_and_go() -> None:
    asked = pair("E2B")
    each = [{**ASKED, "tokens": ids(n, 700), "max_tokens": 3 + n} for n in range(5)]
    alone = one_by_one(asked.model, asked.processor, each)
    for rows in (1, 2, 8):
        assert together(asked.model, asked.processor, each, rows) == alone


def test_quantised_caches() -> None:
    model = tiny.build("E2B", 3, global_head_dim=32)
    tokens, caches = ragged(model, [5, START + 40], 8)
    alone = [copied(cache, None) for cache in caches]
    logits, _ = together_of(model)(tokens, caches)
    for i, cache in enumerate(alone):
        one, _ = step_of(model)(tokens[i : i + 1], cache)
        np.testing.assert_allclose(logits[i : i + 1], one, rtol=0, atol=2e-5)


def test_drafts_are_a_lone_rows() -> None:
    """Whoever is alone again drafts again."""
    asked = pair("E2B")
    tokens = [2, *[7, 8, 9, 10, 11] * 8]
    long = {**ASKED, "tokens": tokens, "draft": "lookup", "max_tokens": 40}
    long["logit_bias"] = {7: 90.0}
    batch: Batch[Chunk] = Batch(asked.model)
    first = batch.add(stream_generate(asked.model, asked.processor, **long))
    second = batch.add(
        stream_generate(asked.model, asked.processor, **{**long, "max_tokens": 10})
    )
    steps = 0
    while not second.ended:
        batch.step()
        steps += 1
    assert steps > 10  # a token each time
    while batch:
        batch.step()
        steps += 1
    assert steps < 40
    stats = [row.items[-1].stats for row in (first, second)]
    assert stats[0] and stats[1] and stats[0].accepted and not stats[1].drafted


def test_whoever_joins_others_does_not_draft() -> None:
    asked = pair("E2B")
    line = {**ASKED, "tokens": [2, *[7, 8, 9, 10, 11] * 8], "draft": "lookup"}
    line["logit_bias"] = {7: 90.0}
    batch: Batch[Chunk] = Batch(asked.model)
    rows = [
        batch.add(stream_generate(asked.model, asked.processor, **line))
        for _ in range(3)
    ]
    while not any(row.ended for row in rows):
        batch.step()
        asking = [row.wanted.tokens.shape[1] for row in rows if row.wanted]
        assert all(length == 1 for length in asking)


def test_an_error_ends_its_row_alone() -> None:
    asked = pair("E2B")
    batch: Batch[Chunk] = Batch(asked.model)

    def stop(read: int, of: int) -> None:
        if read:
            raise ChatError("no more")

    tokens = ids(3, 700) * 3
    options = {**ASKED, "tokens": tokens}
    wrong = stream_generate(asked.model, asked.processor, **options, progress=stop)
    right = stream_generate(asked.model, asked.processor, **options)
    rows = [batch.add(wrong), batch.add(right)]
    while batch:
        batch.step()
    assert str(rows[0].error) == "no more" and not rows[0].items
    assert rows[1].error is None
    assert seen(rows[1].items) == one_by_one(asked.model, asked.processor, [options])[0]


def test_what_cannot_be_computed_is_told_to_the_work() -> None:
    asked = pair("E2B")
    prefix = PrefixCache(asked.model)
    batch: Batch[Chunk] = Batch(asked.model)
    both = [
        {**ASKED, "tokens": ids(3, 700), "prefix": prefix},
        {**ASKED, "tokens": ids(4, 700)},
    ]
    rows = [
        batch.add(stream_generate(asked.model, asked.processor, **each))
        for each in both
    ]
    while not all(row.wanted for row in rows):
        batch.step()

    def fails(*_: object) -> None:
        raise RuntimeError("Insufficient Memory")

    batch._all = fails  # type: ignore[assignment]
    assert batch.step() == rows and not batch
    assert all(isinstance(row.error, RoomError) for row in rows)
    assert not prefix.busy and not prefix.tokens


def test_a_prefix_cache_has_one_row() -> None:
    asked = pair("E2B")
    prefix = PrefixCache(asked.model)
    options = {**ASKED, "tokens": ids(3, 700), "prefix": prefix}
    batch: Batch[Chunk] = Batch(asked.model)
    row = batch.add(stream_generate(asked.model, asked.processor, **options))
    with pytest.raises(CacheError, match="another answer"):
        batch.add(stream_generate(asked.model, asked.processor, **options))
    batch.remove(row)
    assert row.ended and not batch
    batch.add(stream_generate(asked.model, asked.processor, **options))


@pytest.mark.slow
def test_conversations_that_begin_alike_share_what_was_read() -> None:
    """One that another row is writing is copied, and both go on."""
    asked, common = pair("E2B"), [2, *[9, 8, 7, 6] * 100]
    caches = PrefixCaches(asked.model)
    options = {**ASKED, "prefill_step": 512, "max_tokens": 20, "prefix": caches}
    each = [{**options, "tokens": [*common, n]} for n in (20, 21)]
    alone = one_by_one(
        asked.model, asked.processor, [{**e, "prefix": None} for e in each]
    )
    batch: Batch[Chunk] = Batch(asked.model)
    rows = [batch.add(stream_generate(asked.model, asked.processor, **each[0]))]
    while not rows[0].items:
        batch.step()
    rows.append(batch.add(stream_generate(asked.model, asked.processor, **each[1])))
    while batch:
        batch.step()
    for row, one in zip(rows, alone, strict=True):
        assert [c.token for c in row.items] == [c.token for c in one[:-1]]
    assert rows[1].items[-1].stats is not None
    assert rows[1].items[-1].stats.cached_tokens == len(common)


def test_other_work_has_its_turn() -> None:
    def numbers() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError("no third")

    batch: Batch[int] = Batch(tiny.build("E2B", 3), rows=2)
    rows = [batch.add(numbers()), batch.add(iter([5]))]
    with pytest.raises(ValueError, match="its 2 rows"):
        batch.add(iter([1]))
    told: list[list[int]] = [[], []]
    while batch:
        for row in batch.step():
            told[rows.index(row)] += row.take()
    assert told == [[1, 2], [5]]
    assert str(rows[0].error) == "no third" and rows[1].error is None
