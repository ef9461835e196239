"""Whole answers with a drafter of the reference's make: the same tokens as without."""

import random
from functools import cache
from pathlib import Path
from typing import Any

import drafting
import mlx.core as mx
import pytest
import tiny
import tiny_assistants
from drafting import GREEDY, SAMPLED, Outcome, Pair
from tiny_assistants import KINDS, ORDERED

from mlx_gemma4.assistant.drafter import Drafter
from mlx_gemma4.decoding.step import DecodingStep

PENALTIES: list[dict[str, Any]] = [{}, {}, {"repetition_penalty": 1.2}]
LIKELY = range(300, 304)  # tokens that make most of an answer: drafts can be right


@cache
def pair(variant: str) -> tuple[Pair, Drafter]:
    """A random model with the demo's vocabulary, a window of eight, and a drafter."""
    asked = drafting.pair.__wrapped__(variant)  # its own, to be changed
    vocabulary = asked.model.config.text_config.vocab_size
    config = tiny.config_dict(variant, vocab_size=vocabulary)
    own = tiny_assistants.config_dict(config, ordered=variant in ORDERED)
    own |= {"num_centroids": 480, "centroid_intermediate_top_k": 20}
    module = tiny_assistants.build(own, 5)
    for part in (asked.model, module):
        weight = part.language_model.embed_tokens.weight
        weight[mx.array(list(LIKELY))] *= 6
    if variant in ORDERED:
        head = module.masked_embedding
        table = module.language_model.embed_tokens.weight
        parts = head.token_ordering.reshape(head.parts, -1)
        head.centroids.weight = table[parts].mean(axis=1)
    return asked, Drafter(module, Path())


def check(variant: str, number: int, **options: Any) -> Outcome:
    asked, drafter = pair(variant)
    draw = random.Random(number)
    tokens = [2, *(draw.randrange(5, 700) for _ in range(draw.randrange(1, 40)))]
    stop_after = draw.choice([None, None, None, 3, 10])
    options |= {"tokens": tokens, "max_tokens": 24, "seed": number}
    options |= {"stop_after": stop_after, **PENALTIES[number % 3]}
    asked.model.drafter = drafter
    plain = asked.outcome(**options, draft="off")
    drafted = asked.outcome(**options, draft="assistant")
    assert drafted == plain
    return drafted


@pytest.mark.slow
@pytest.mark.parametrize("drawn", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("variant", KINDS)
def test_forty_answers_of_each_kind_of_model(variant: str, drawn: dict) -> None:
    answers = [check(variant, number, **drawn) for number in range(40)]
    accepted = sum(answer.accepted for answer in answers)
    drafted = sum(answer.drafted for answer in answers)
    assert drafted / 20 < accepted < drafted  # chance is 1 in 1920


@pytest.mark.slow
def test_answers_with_drafts_that_were_right() -> None:
    answer = check("E2B", 1, **SAMPLED)
    assert 0 < answer.accepted < answer.drafted


@pytest.mark.slow
def test_in_the_step_that_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step's calls, uncompiled: states come from there, too."""
    asked, _ = pair("E4B")
    step = DecodingStep(asked.model, lambda f: f)
    monkeypatch.setattr("mlx_gemma4.decoding.stream.step_of", lambda _: step)
    assert check("E4B", 4, **GREEDY).drafted
