"""Rows share what memory there is: some wait, and answers stay what they are."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from drafting import Pair, pair
from together import one_by_one, seen

from mlx_gemma4 import Batch, Chunk, PrefixCaches, generate, stream_generate
from mlx_gemma4.decoding.batch import Row
from mlx_gemma4.decoding.needs import RESERVE, GaveWay, Need
from mlx_gemma4.decoding.prefill import step_for
from mlx_gemma4.device import Room
from mlx_gemma4.generation import loop
from mlx_gemma4.generation.ordered import in_order
from mlx_gemma4.generation.room import demand_of
from mlx_gemma4.memory import held
from mlx_gemma4.memory.estimate import for_a_moment

Limit = Callable[..., int]
FIRST = 256  # tokens that all are counted with here, whatever they come to


@pytest.fixture
def asked() -> Pair:
    return pair("E2B")


@pytest.fixture
def limit(asked: Pair, monkeypatch: pytest.MonkeyPatch) -> Limit:
    """Lets memory hold answers with so many tokens of context, and no more."""
    demand = replace(demand_of(asked.model, step_for(asked.model)), pins=0)

    def to(*contexts: int, pins: int = 0) -> int:
        told = [replace(demand, pins=pins).at(tokens) for tokens in contexts]
        most = demand.weights + sum(each.kv for each in told) + for_a_moment(told)
        monkeypatch.setattr(loop, "room_of", lambda model: Room(0, most))
        return most

    return to


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows how long answers become."""

    def need(demand: Any, limit: int, tokens: int, *rest: Any) -> Need:
        return Need(demand, limit, FIRST, *rest)

    monkeypatch.setattr(loop, "Need", need)


def lines(asked: Pair, lengths: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """Options by tokens of the prompt and of the answer."""
    never = dict.fromkeys(asked.processor.generation.stop_tokens, -1e4)
    options = {"temperature": 1.0, "logit_bias": never, "stop_loops": False}
    return [
        {**options, "tokens": [2, *[20 + i] * (n - 1)], "seed": i, "max_tokens": most}
        for i, (n, most) in enumerate(lengths)
    ]


def begun(
    asked: Pair, each: list[dict[str, Any]]
) -> tuple[Batch[Chunk], list[Row[Chunk]]]:
    batch: Batch[Chunk] = Batch(asked.model)
    streams = [stream_generate(asked.model, asked.processor, **line) for line in each]
    return batch, [batch.add(stream) for stream in streams]


def run(batch: Batch[Chunk], rows: list[Row[Chunk]], most: int) -> list[list[int]]:
    """The rows that gave something, step by step."""
    told = []
    weights = rows[0].need.demand.weights if rows[0].need else 0
    while batch:
        before = [len(row.items) for row in rows]
        batch.step()
        told.append([i for i, n in enumerate(before) if len(rows[i].items) > n])
        held = sum(row.prefix.nbytes for row in rows if row.prefix)
        assert weights + held <= most
    return told


def test_what_is_counted_on(asked: Pair) -> None:
    for most, counted in ((None, 5 + RESERVE), (7, 12), (2000, 2005)):
        (line,) = lines(asked, [(5, 1)])
        line["max_tokens"] = most
        assert stream_generate(*vars(asked).values(), **line).need.tokens == counted


def test_rows_wait_until_one_leaves(asked: Pair, limit: Limit) -> None:
    each = lines(asked, [(100, 9), (90, 3), (80, 4), (5, 2)])
    alone = one_by_one(asked.model, asked.processor, each)
    most = limit(109, 93)
    batch, rows = begun(asked, each)
    assert batch.full and [row in batch._held_up for row in rows] == [0, 0, 1, 1]
    told = run(batch, rows, most)
    assert [seen(row.items) for row in rows] == alone
    firsts = [next(i for i, t in enumerate(told) if n in t) for n in range(4)]
    lasts = [max(i for i, t in enumerate(told) if n in t) for n in range(4)]
    assert firsts == sorted(firsts)
    assert lasts[1] < firsts[2] <= lasts[0]  # where a leaver made room
    assert not batch.full


def test_the_first_always_begins(asked: Pair, limit: Limit) -> None:
    most = limit(100)
    each = lines(asked, [(300, 2), (20, 2)])
    batch, rows = begun(asked, each)
    batch.step()
    assert rows[0].prefix and rows[0].prefix.tokens and most
    assert batch._held_up == rows[1:]
    while batch:
        batch.step()
    assert not any(row.error for row in rows)


@pytest.mark.slow
@pytest.mark.usefixtures("unlimited")
def test_those_that_came_last_pause(asked: Pair, limit: Limit) -> None:
    each = lines(asked, [(250, 30), (250, 20)])
    alone = one_by_one(asked.model, asked.processor, each)
    most = limit(512, FIRST)
    batch, rows = begun(asked, each)
    assert not batch.full
    told = run(batch, rows, most)
    assert [seen(row.items) for row in rows] == alone
    second = [i for i, t in enumerate(told) if 1 in t]
    paused = max(b - a for a, b in zip(second, second[1:], strict=False))
    assert paused > 15  # until the first had ended
    assert max(i for i, t in enumerate(told) if 0 in t) < second[-1]


@pytest.mark.usefixtures("unlimited")
def test_who_came_last_gives_way(asked: Pair, limit: Limit) -> None:
    each = lines(asked, [(250, 20), (240, 15)])
    alone = one_by_one(asked.model, asked.processor, each)
    most = limit(FIRST, FIRST)
    batch, rows = begun(asked, each)
    run(batch, rows, most)
    assert seen(rows[0].items) == alone[0]
    assert isinstance(rows[1].error, GaveWay) and 0 < len(rows[1].items) < 15
    for remedy in ("--rows", "--max-tokens", "--max-context", "--kv-bits 8"):
        assert remedy in str(rows[1].error)


@pytest.mark.slow
@pytest.mark.usefixtures("unlimited")
def test_in_order_what_gave_way_is_made_again(asked: Pair, limit: Limit) -> None:
    each = lines(asked, [(250, 20), (240, 15), (30, 3)])
    alone = one_by_one(asked.model, asked.processor, each)
    limit(FIRST, FIRST)
    asks = [partial(dict, line) for line in each]
    answers = in_order(asked.model, asked.processor, asks, 2)
    assert [seen([*chunks]) for chunks in answers] == alone


def test_what_nobody_uses_is_given_up_first(asked: Pair, limit: Limit) -> None:
    each = lines(asked, [(100, 2), (90, 2), (80, 2)])
    alone = one_by_one(asked.model, asked.processor, each[1:])
    caches = PrefixCaches(asked.model)
    generate(*vars(asked).values(), **each[0], prefix=caches)
    assert caches.unused
    limit(92, 82, pins=3)
    batch, rows = begun(asked, [{**line, "prefix": caches} for line in each[1:]])
    assert not caches.unused and not batch._held_up
    while batch:
        batch.step()
    for row, one in zip(rows, alone, strict=True):
        assert [c.token for c in row.items] == [c.token for c in one[:-1]]


def test_pins_that_stay_are_counted(
    asked: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the one that large models keep of a turn."""
    monkeypatch.setattr(held, "PIN_BYTES", 1)
    caches = PrefixCaches(asked.model)
    for last in (3, 4):
        tokens = [2, *[5] * 400, *[last] * 300]
        line = {"tokens": tokens, "max_tokens": 2, "prefix": caches}
        stream = stream_generate(*vars(asked).values(), **line)
        assert [*stream]
        prefix, demand = stream.need.prefix, stream.need.demand
        assert prefix.nbytes <= demand.at(len(prefix.tokens)).kv
    assert [pin.shared for pin in prefix.pins] == [True, False]


def test_what_has_not_begun_forgets_before_another_ends(
    asked: Pair, limit: Limit
) -> None:
    """A conversation that goes on takes no memory from one before it."""
    each = lines(asked, [(100, 2), (90, 2)])
    alone = one_by_one(asked.model, asked.processor, each)
    caches = PrefixCaches(asked.model)
    generate(*vars(asked).values(), **each[1], prefix=caches)
    limit(102)
    batch, rows = begun(asked, [each[0], {**each[1], "prefix": caches}])
    assert rows[1].prefix and not rows[1].prefix.nbytes
    while batch:
        batch.step()
    for row, one in zip(rows, alone, strict=True):
        assert [c.token for c in row.items] == [c.token for c in one[:-1]]
