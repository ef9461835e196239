"""Drafts change how long an answer takes, and nothing else: whatever proposes them,
however tokens are drawn, and wherever one stops listening."""

import random
from functools import cache
from typing import Any

import pytest
import tiny
from drafting import Kind, Pair
from places import DEMO

from mlx_gemma4 import Processor, load
from mlx_gemma4.decoding.step import DecodingStep

VARIANTS = ("E2B", "E4B", "12B", "26B-A4B", "31B")
GREEDY, SAMPLED = {"temperature": 0}, {"temperature": 1.2, "top_p": 0.97, "top_k": 40}
PENALTIES: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.3},
    {"presence_penalty": 1.5, "frequency_penalty": 0.5},
    {"min_p": 0.02, "logit_bias": {300: 2.0, 301: -3.0}},
]


@cache
def pair(variant: str, packed: bool = False) -> Pair:
    """A random model with the demo's vocabulary and a window of eight tokens."""
    vocab = load_demo().model.config.text_config.vocab_size
    sizes = {"vocab_size": vocab, "vocab_size_per_layer_input": vocab}
    model = tiny.build(variant, 5, **sizes)
    if packed:
        model = tiny.build_packed(variant, 5)
    return Pair(model, Processor.from_folder(DEMO, model.config))


@cache
def load_demo() -> Pair:
    return Pair(*load(DEMO))


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
    asked.check(
        draft,
        kind,
        len(tokens),
        number,
        stop_after=stop_after,
        tokens=tokens,
        **options,
    )


@pytest.mark.parametrize("number", range(6))
def test_a_few_answers(number: int) -> None:
    options = GREEDY if number % 2 else SAMPLED
    check("E2B" if number % 3 else "31B", number, **options, **PENALTIES[number % 4])


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("drawn", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_forty_answers_of_each_kind_of_model(variant: str, drawn: dict) -> None:
    for number in range(40):
        check(variant, number, **drawn, **PENALTIES[number // 2 % 4])


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["E2B", "26B-A4B", "31B"])
def test_quantised_models(variant: str) -> None:
    for number in range(10):
        check(variant, number, packed=True, **(GREEDY if number % 2 else SAMPLED))


@pytest.mark.parametrize("kind", [Kind.PERFECT, Kind.MIXED])
def test_the_step_that_is_compiled(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its calls, uncompiled, for every number of rows."""
    asked = pair("E2B")
    step = DecodingStep(asked.model, lambda f: f)
    monkeypatch.setattr("mlx_gemma4.decoding.rounds.step_of", lambda _: step)
    for drawn in (GREEDY, SAMPLED):
        options = {"max_tokens": 24, "seed": 3, **drawn}
        asked.check(
            "assistant", kind, 30, tokens=prompt(1, 700)[:9] * 3 + [7, 8, 9], **options
        )


def test_right_drafts_are_taken_and_counted() -> None:
    asked = pair("E2B")
    tokens = prompt(3, 700)
    options: dict[str, Any] = {"tokens": tokens, "max_tokens": 30, "temperature": 0}
    asked.check("assistant", Kind.PERFECT, len(tokens), **options)
