"""Many conversations at once, token for token as one by one."""

import inspect
from typing import Any

import pytest
from drafting import load_demo, pair
from together import conversation, ids, one_by_one, options, together

from mlx_gemma4 import PrefixCaches, generate, generate_batch, stream_generate
from mlx_gemma4.errors import ChatError

OWN = {"tokens", "begun", "progress"}  # of one conversation


def test_the_options_are_those_of_one() -> None:
    one = inspect.signature(stream_generate).parameters
    many = inspect.signature(generate_batch).parameters
    assert set(many) - set(one) == {"conversations", "rows"}
    assert set(one) - set(many) == OWN | {"messages"}
    assert all(many[k].default == one[k].default for k in set(one) & set(many))


@pytest.mark.slow
def test_a_list_of_conversations() -> None:
    demo = load_demo()
    asked = ["Hello", conversation(0), conversation(3), "Who are you?"]
    drawn: dict[str, Any] = {"temperature": 0.8, "seed": 4, "max_tokens": 8}
    alone = [generate(demo.model, demo.processor, each, **drawn) for each in asked]
    for rows in (1, 3):
        many = generate_batch(demo.model, demo.processor, asked, rows=rows, **drawn)
        assert [each.tokens for each in many] == [each.tokens for each in alone]
        assert [each.text for each in many] == [each.text for each in alone]
    assert generate_batch(demo.model, demo.processor, []) == []


@pytest.mark.slow
def test_prefix_caches_serve_all() -> None:
    demo, long = load_demo(), "The cat sat. " * 100
    caches = PrefixCaches(demo.model)
    drawn: dict[str, Any] = {"temperature": 0, "max_tokens": 4}
    asked = [f"{long} {number}" for number in range(3)]
    generate_batch(demo.model, demo.processor, asked[:1], prefix=caches, **drawn)
    many = generate_batch(demo.model, demo.processor, asked, prefix=caches, **drawn)
    assert all(each.stats and each.stats.cached_tokens > 256 for each in many)
    alone = [generate(demo.model, demo.processor, each, **drawn) for each in asked]
    assert [each.tokens for each in many] == [each.tokens for each in alone]


def test_one_that_cannot_be_answered() -> None:
    demo = load_demo()
    with pytest.raises(ChatError):
        generate_batch(demo.model, demo.processor, ["Hi", [{"role": "nobody"}]])


@pytest.mark.slow
def test_sixty_four_conversations_with_media() -> None:
    demo = load_demo()
    asked = [
        {"messages": conversation(n), "image_tokens": 70, **options(n * 7 + n // 10)}
        for n in range(63)
    ]
    # One that goes round in circles.
    word = demo.processor.tokenizer.encode_text(" red")[-1]
    circle = {
        "logit_bias": {word: 90.0},
        "temperature": 0,
        "max_tokens": 400,
        "seed": 1,
    }
    asked.append({"messages": conversation(3), **circle})
    alone = one_by_one(demo.model, demo.processor, asked)
    assert alone[-1][-2].finish_reason == "loop"
    for rows in (3, 8):
        assert together(demo.model, demo.processor, asked, rows) == alone


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True], ids=["float32", "4 bits"])
@pytest.mark.parametrize("variant", ["E2B", "E4B", "12B", "26B-A4B", "31B"])
def test_sixty_four_prompts_of_each_kind_of_model(variant: str, packed: bool) -> None:
    if packed and variant == "12B":
        pytest.skip("there is no packed one of its size")
    made = pair(variant, packed)
    asked = [
        {**options(n * 7 + n // 10), "tokens": ids(n, 700), "prefill_step": 16}
        for n in range(64)
    ]
    for each in asked:
        for name in ("tools", "tool_choice"):  # which only messages have
            each.pop(name, None)
    alone = one_by_one(made.model, made.processor, asked)
    assert together(made.model, made.processor, asked, 8) == alone
