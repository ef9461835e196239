"""Answers with drafts and without, as they are measured. No timing is judged."""

from typing import Any

import pytest

from mlx_gemma4 import Gemma4, Processor, load
from mlx_gemma4.bench.drafting import (
    NEW,
    OFF,
    Answered,
    Task,
    answer,
    contenders,
    kinds_of,
)
from mlx_gemma4.errors import BenchError

Demo = tuple[Gemma4, Processor]
ASK = "What is the capital of France?"


@pytest.fixture(scope="module")
def demo() -> Demo:
    model, processor = load("demo")
    model.drafter = None
    return model, processor


@pytest.mark.slow
def test_every_kind_gives_the_same_answer(demo: Demo) -> None:
    found = contenders(*demo, Task("france", ASK, 6, temperature=0), unlearned=True)
    assert list(found) == [OFF, "auto", "lookup", NEW]
    answers = [run(1) for run in found.values()]
    assert len({each.tokens for each in answers}) == 1
    assert answers[0].drafted == 0


def test_the_round_is_the_seed(demo: Demo) -> None:
    task = Task("raw ids", None, 6, [2, 9, 33, 7], temperature=2.0, endless=True)
    run = contenders(*demo, task)[OFF]
    assert run(1).tokens == run(1).tokens != run(2).tokens


def test_an_endless_answer_has_all_its_tokens(demo: Demo) -> None:
    task = Task("endless", ASK, 24, temperature=0, endless=True)
    found = answer(*demo, task, "lookup", 1)
    assert len(found.tokens) == 24 and found.accepted > 0


def test_what_was_learned_stays_but_for_the_one_that_is_new(demo: Demo) -> None:
    model, processor = demo
    found = contenders(model, processor, Task("france", ASK, 4), unlearned=True)
    found["auto"](1)
    paces = model.paces
    assert paces is not None
    found[NEW](1)
    assert model.paces is paces


def test_the_drafter_takes_part_where_there_is_one(demo: Demo) -> None:
    model, _ = demo
    drafter: Any = object()
    model.drafter = drafter
    try:
        assert kinds_of(model) == ["off", "auto", "assistant", "lookup"]
    finally:
        model.drafter = None


def test_one_token_cannot_be_timed(demo: Demo) -> None:
    with pytest.raises(BenchError, match="france has one token only"):
        answer(*demo, Task("france", ASK, 1), "off", 1)


def test_rate() -> None:
    assert Answered((1, 2, 3), 0.5, 9.0, 0, 0).rate == 4
