"""A limit on thoughts: never exceeded by a token, and no part of an answer."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_gemma4 import Gemma4, Processor, Response, generate, load
from mlx_gemma4.errors import ChatError
from mlx_gemma4.generation.limits import ThoughtLimit

ASKED = "What is the capital of France?"


@pytest.fixture(scope="module")
def demo(demo_folder: Path) -> tuple[Gemma4, Processor]:
    return load(demo_folder)


def limited(processor: Processor, most: int, *drawn: int, inside: bool = False) -> list:
    """What becomes of the ids that a model would draw."""
    limit = ThoughtLimit(processor.tokenizer, most, inside)
    kept = []
    for token in drawn:
        kept.append(limit.limited(mx.array([[token]])).item())
        limit.follow(mx.array([[kept[-1]]]))
    return kept


def test_a_thought_is_closed_at_its_limit(demo) -> None:
    tokenizer = demo[1].tokenizer
    start, end = (tokenizer.special_tokens[m] for m in ("<|channel>", "<channel|>"))
    header = tokenizer.encode("thought\n")
    drawn = [start, *header, 400, 401, 402, 403]
    for most in range(3):
        kept = drawn[: 1 + len(header) + most]
        assert limited(demo[1], most, *drawn)[: len(kept) + 1] == [*kept, end]
    assert limited(demo[1], 4, *drawn, end, 404) == [*drawn, end, 404]
    assert limited(demo[1], 2, 400, 401, 402) == [400, 401, 402]  # an answer


def test_a_thought_that_the_prompt_opened_and_a_second_one(demo) -> None:
    marks = demo[1].tokenizer.special_tokens
    start, end = marks["<|channel>"], marks["<channel|>"]
    assert limited(demo[1], 1, 400, 401, 402, inside=True) == [400, end, 402]
    again = limited(demo[1], 1, 400, end, start, 401, inside=True)
    assert again == [400, end, start, end]


def test_a_thought_that_has_begun(demo) -> None:
    end = demo[1].tokenizer.special_tokens["<channel|>"]
    limit = ThoughtLimit(demo[1].tokenizer, 2, True, [400, 401])
    assert limit.limited(mx.array([[402]])).item() == end


def test_a_call_within_a_thought_is_left_alone(demo) -> None:
    call = demo[1].tokenizer.special_tokens["<|tool_call>"]
    drawn = [400, call, 401, 402, 403]
    assert limited(demo[1], 2, *drawn, inside=True) == drawn


def said(demo: tuple[Gemma4, Processor], **options: Any) -> Response:
    model, processor = demo
    return generate(model, processor, ASKED, **options)


@pytest.mark.slow
@pytest.mark.parametrize("most", [0, 1, 2])
def test_the_demo_thinks_no_longer_than_allowed(demo, most: int) -> None:
    free = said(demo, thinking=True, temperature=0)
    found = said(demo, thinking=True, temperature=0, think_budget=most)
    encode = demo[1].tokenizer.encode
    assert len(encode(free.thought)) > 2 >= len(encode(found.thought)) == most
    assert found.finish_reason == "stop"


@pytest.mark.slow
def test_a_limit_that_is_not_reached_changes_nothing(demo) -> None:
    options = {"thinking": True, "seed": 5}
    free = said(demo, **options)
    assert said(demo, **options, think_budget=500).tokens == free.tokens


@pytest.mark.parametrize("most", [-1, 1.5, True])
def test_what_is_no_limit(demo, most) -> None:
    with pytest.raises(ChatError, match="think_budget is"):
        said(demo, think_budget=most)
