"""Drafts change how long an answer takes, and nothing else: whatever proposes them,
however tokens are drawn, and wherever one stops listening."""

import random
from typing import Any

import pytest
from drafting import GREEDY, SAMPLED, Kind, pair
from tiny_assistants import KINDS

from mlx_gemma4.decoding.step import DecodingStep

PENALTIES: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.3},
    {"presence_penalty": 1.5, "frequency_penalty": 0.5},
    {"min_p": 0.02, "logit_bias": {300: 2.0, 301: -3.0}},
]


def prompt(number: int, rows: int) -> list[int]:
    """Random ids, in part again and again, so that lookup finds some."""
    draw = random.Random(number)
    some = [draw.randrange(5, rows) for _ in range(draw.randrange(3, 12))]
    return [2, *some * draw.randrange(1, 5)]


def check(variant: str, number: int, packed: bool = False, **options: Any) -> None:
    asked = pair(variant, packed)
    rows = asked.model.config.text_config.token_rows
    tokens = prompt(number, min(rows, 700))
    kind = list(Kind)[number % len(Kind)]
    draft = ("assistant", "lookup", "auto")[number // len(Kind) % 3]
    stop_after = random.Random(number).choice([None, None, 1, 2, 5, 11])
    options = {"max_tokens": 24, "seed": number, **options}
    options = {"stop_after": stop_after, "tokens": tokens, **options}
    asked.check(draft, kind, number, **options)


@pytest.mark.parametrize("number", range(4))
def test_a_few_answers(number: int) -> None:
    options = {**(GREEDY if number % 2 else SAMPLED), "max_tokens": 12}
    check("E2B" if number % 3 else "31B", number, **options, **PENALTIES[number % 4])


@pytest.mark.slow
@pytest.mark.parametrize("variant", KINDS)
@pytest.mark.parametrize("drawn", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_forty_answers_of_each_kind_of_model(variant: str, drawn: dict) -> None:
    for number in range(40):
        check(variant, number, **drawn, **PENALTIES[number // 2 % 4])


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["E2B", "26B-A4B", "31B"])
def test_quantised_models(variant: str) -> None:
    for number in range(10):
        check(variant, number, packed=True, **(GREEDY if number % 2 else SAMPLED))


def test_the_step_that_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its calls, uncompiled, for every number of rows."""
    asked = pair("E2B")
    step = DecodingStep(asked.model, lambda f: f)
    monkeypatch.setattr("mlx_gemma4.decoding.stream.step_of", lambda _: step)
    tokens = prompt(1, 700)[:9] * 3
    for drawn in (GREEDY, SAMPLED):
        asked.check(
            "assistant", Kind.MIXED, 4, **drawn, seed=3, tokens=tokens, max_tokens=10
        )


def test_right_drafts_save_rounds() -> None:
    asked, tokens = pair("E2B"), prompt(3, 700)
    options: dict[str, Any] = {"tokens": tokens, "max_tokens": 24, "temperature": 0}
    found = asked.check("assistant", Kind.PERFECT, **options)
    assert asked.proposer.asked < len(found.tokens) / 3


def test_what_the_context_has_no_room_for_is_not_drafted() -> None:
    asked = pair("E2B")
    for most in (1, 2, 3):
        asked.check("assistant", Kind.PERFECT, tokens=[2, 9, 9], max_tokens=most)
