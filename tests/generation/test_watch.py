"""Answers that go round in circles, and those that repeat themselves rightly."""

import base64
import itertools
import json
import random
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from looping import WORDS, cycle_of

from mlx_gemma4 import Gemma4, Processor, generate, load
from mlx_gemma4.chat.tokenizer import Tokenizer
from mlx_gemma4.generation.limits import LONGEST, LoopWatch


@pytest.fixture(scope="module")
def demo(demo_folder: Path) -> tuple[Gemma4, Processor]:
    return load(demo_folder)


@pytest.fixture(scope="module")
def tokenizer(demo_folder: Path) -> Tokenizer:
    return Tokenizer(demo_folder)


def first_loop(tokenizer: Tokenizer, tokens: list[int]) -> int | None:
    """How many tokens there were when the watch spoke."""
    watch = LoopWatch(tokenizer)
    return next((n for n, t in enumerate(tokens, start=1) if watch.add(t)), None)


@pytest.mark.parametrize("length", range(1, LONGEST + 1))
def test_every_cycle_of_words_is_found_in_time(tokenizer, length: int) -> None:
    before = tokenizer.encode("Once upon a time there was a hill. ")
    cycle = cycle_of(tokenizer, length)
    found = first_loop(tokenizer, before + cycle * 400)
    assert found is not None
    in_cycle = found - len(before)
    assert max(200, 4 * length) - len(before) <= in_cycle <= max(200, 4 * length)


def identity(n: int) -> str:
    return "\n".join(" ".join("10"[r != c] for c in range(n)) for r in range(n))


def rightly_repetitive() -> list[str]:
    draw = random.Random(7)
    many = [15, 20, 25, 30, 35, 40]
    return [
        *("\n".join(["0, " * n] * n) for n in (10, 15, 20)),
        *(
            "\n".join(" ".join("10"[r != c] for c in range(n)) for r in range(n))
            for n in many
        ),
        *(sign * 400 for sign in "-=*_#~."),
        *("* * * " * n for n in many),
        *("| yes | no |\n" * n for n in many),
        *("| | | |\n|---|---|---|\n" + "| a | b | c |\n" * n for n in many),
        *(
            f"```\n{line * 80}```\n"
            for line in ("pass\n", "    x = x + 1\n", "a b c\n")
        ),
        *(base64.b64encode(bytes(n)).decode() for n in (300, 600, 900)),
        *(json.dumps([value] * 90) for value in (0, "a", None, True, "red", {"a": 1})),
        *("\n".join(f"{k}. the same words again" for k in range(n)) for n in many),
        *(
            "\n".join(
                " ".join(draw.sample(WORDS, 8)) + "\nO the tide, the tide, the tide!"
                for _ in range(n)
            )
            for n in many
        ),
        *("la la la, oh, " * 12 + " ".join(draw.sample(WORDS, 12)) for _ in range(3)),
        *("1010" * n for n in (80, 100, 120)),
        *("\n".join("#" * k for k in range(1, n)) for n in many),
        *("👍 " * 90, "🙂🙃" * 60, "\n" * 300, " \n" * 150, "/* */ " * 60, "<br>" * 70),
        *("[0.0, 0.0, 0.0],\n" * n for n in many),
        *("0x00, " * n for n in many),
        *("<td>0</td>" * n for n in many),
        *("()" * 200, "{}" * 150, "$$" * 100, "%s, " * 80, "?, " * 100, "... " * 90),
    ]


@pytest.mark.slow
def test_what_repeats_itself_rightly_is_left_alone(tokenizer) -> None:
    cut = [
        text[:60]
        for text in rightly_repetitive()
        if first_loop(tokenizer, tokenizer.encode(text))
    ]
    assert cut == []


def test_even_zeros_come_to_an_end(tokenizer) -> None:
    token = tokenizer.encode("x 0")[-1]
    assert first_loop(tokenizer, [token] * 5000) == 4000


def always(model: Gemma4, tokens: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the model say `tokens` again and again, as far as its logits decide; its
    layers do not run."""
    turn = itertools.cycle(tokens)

    def hidden(self: Gemma4, inputs: mx.array, *_: object, **__: object) -> mx.array:
        return mx.zeros((*inputs.shape, 1))

    def logits(self: Gemma4, h: mx.array) -> mx.array:
        rows = self.config.text_config.vocab_size
        return mx.where(mx.arange(rows) == next(turn), 9.0, 0.0)[None, None]

    monkeypatch.setattr(type(model), "hidden", hidden)
    monkeypatch.setattr(type(model), "logits", logits)


def test_an_answer_in_a_loop_is_ended(demo, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = demo
    always(model, cycle_of(processor.tokenizer, 7), monkeypatch)
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 300, "draft": "off"}
    found = generate(model, processor, "Hi", **options)
    assert found.finish_reason == "loop" and 190 < len(found.tokens) <= 200
    assert found.text == processor.tokenizer.decode(found.tokens)
    free = generate(model, processor, "Hi", **options, stop_loops=False)
    assert free.finish_reason == "length" and len(free.tokens) == 300


def test_a_thought_in_a_loop_is_closed(demo, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = demo
    marks = processor.tokenizer.special_tokens
    start = [marks["<|channel>"], *processor.tokenizer.encode("thought\n")]
    said = itertools.chain(start, cycle_of(processor.tokenizer, 7) * 60)
    always(model, list(said), monkeypatch)
    found = generate(
        model,
        processor,
        "Hi",
        thinking=True,
        temperature=0,
        max_tokens=260,
        draft="off",
    )
    assert found.stats is not None and found.stats.loops == 1
    assert found.tokens.count(marks["<channel|>"]) == 1
    assert len(processor.tokenizer.encode(found.thought)) < 210 and found.text


def test_a_looping_thought_that_ends_by_itself_keeps_what_follows(
    demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = demo
    tokenizer, marks = processor.tokenizer, processor.tokenizer.special_tokens
    thought = [*tokenizer.encode("thought\n"), *cycle_of(tokenizer, 7) * 40]
    found_at = first_loop(tokenizer, thought)
    assert found_at is not None
    thought = [marks["<|channel>"], *thought[:found_at], marks["<channel|>"]]
    said = [*thought, *tokenizer.encode("yes no yes"), marks["<turn|>"]]
    always(model, said, monkeypatch)
    found = generate(model, processor, "Hi", thinking=True, temperature=0, draft="off")
    assert found.stats is not None and found.stats.loops == 1
    assert found.tokens == said and found.text == "yes no yes"
