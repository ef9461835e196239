"""The forms that options of `stream_generate` take, and what is refused at once."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_gemma4 import Gemma4, PrefixCache, Processor, generate, load
from mlx_gemma4.errors import CacheError, ChatError, CheckpointError

PARIS = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def demo() -> tuple[Gemma4, Processor]:
    return load("demo")


def text(demo: tuple[Gemma4, Processor], **options: Any) -> str:
    return generate(*demo, PARIS, temperature=0, max_tokens=20, **options).text


@pytest.mark.slow
def test_one_stop_string_need_not_be_a_list(demo: tuple[Gemma4, Processor]) -> None:
    whole = text(demo)
    stop = whole[4:9]
    assert text(demo, stop=stop) == text(demo, stop=[stop]) == whole[:4]
    assert text(demo, stop=None) == text(demo, stop=()) == whole


@pytest.mark.slow
def test_tokens_may_be_an_array(demo: tuple[Gemma4, Processor]) -> None:
    model, processor = demo
    tokens = processor(PARIS).tokens
    expected = generate(model, processor, PARIS, temperature=0, max_tokens=9).tokens
    forms: list[Any] = [tokens, tokens[0], np.array(tokens), tokens[0].tolist()]
    for form in forms:
        made = generate(model, processor, tokens=form, temperature=0, max_tokens=9)
        assert made.tokens == expected


def test_a_plain_answer_is_all_that_was_generated(
    demo: tuple[Gemma4, Processor],
) -> None:
    model, processor = demo
    asked = [{"role": "user", "content": "What is the weather in Rome?"}]
    city = {"type": "object", "properties": {"city": {"type": "string"}}}
    function = {"name": "get_weather", "description": "Weather in a city"}
    tools = [{"type": "function", "function": {**function, "parameters": city}}]
    how: Any = {"tools": tools, "temperature": 0, "max_tokens": 40}
    split = generate(model, processor, asked, **how)
    plain = generate(model, processor, asked, plain=True, **how)
    assert plain.tokens == split.tokens and split.tool_calls and not split.text
    assert plain.text == processor.tokenizer.decode(plain.tokens[:-1])
    assert plain.finish_reason == "stop" and not plain.tool_calls


@pytest.mark.parametrize("tokens", [[], [10**12], [-1], [1.5], ["a"], [[1, 2], [3, 4]]])
def test_tokens_that_are_none(demo: tuple[Gemma4, Processor], tokens: Any) -> None:
    with pytest.raises(ChatError, match="[Tt]oken"):
        generate(*demo, tokens=tokens)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": "hot"},
        {"temperature": float("nan")},
        {"top_k": 1.5},
        {"seed": 1.5},
        {"max_tokens": 2.5},
        {"max_tokens": 0},
    ],
)
def test_options_of_the_wrong_kind(
    demo: tuple[Gemma4, Processor], options: dict[str, Any]
) -> None:
    with pytest.raises(ChatError, match=next(iter(options))):
        generate(*demo, PARIS, **options)


def test_a_tiny_temperature_is_greedy(demo: tuple[Gemma4, Processor]) -> None:
    options: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "max_tokens": 8, "seed": 1}
    cold = generate(*demo, PARIS, temperature=1e-45, **options)
    assert cold.tokens == generate(*demo, PARIS, temperature=0, max_tokens=8).tokens


def test_logits_that_are_not_finite_are_an_error() -> None:
    model, processor = load("demo")
    norm = model.language_model.norm
    norm.weight = norm.weight * mx.nan
    with pytest.raises(CheckpointError, match="not finite"):
        generate(model, processor, PARIS)


def test_a_prefix_cache_of_another_model(demo: tuple[Gemma4, Processor]) -> None:
    other, _ = load("demo")
    with pytest.raises(CacheError, match="another model"):
        generate(*demo, PARIS, prefix=PrefixCache(other))
