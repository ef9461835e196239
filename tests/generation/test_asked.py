"""Conversations as a model is asked to go on from them."""

import re
from pathlib import Path
from typing import Any

import pytest

from mlx_gemma4 import Config, Processor
from mlx_gemma4.errors import ChatError
from mlx_gemma4.generation.asked import as_written, prompt_of

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {}}}
CALLED = {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]}
QUESTION = {"role": "user", "content": "How late is it?"}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "noon"}


@pytest.fixture(scope="module")
def processor(demo_folder: Path) -> Processor:
    config = Config.from_file(demo_folder / "config.json")
    return Processor.from_folder(demo_folder, config)


def asked(processor: Processor, messages: Any) -> list[int]:
    prompt, _ = prompt_of(processor, messages, None, None, False, None, False, None)
    return list(prompt.tokens)


def test_words_stand_before_the_call_they_led_to(processor: Processor) -> None:
    text = processor.tokenizer.decode(asked(processor, [QUESTION, CALLED, RESULT]))
    written = "<|turn>model\nLet me see.<|tool_call>call:f{}<tool_call|>"
    assert written in text and text.endswith("<tool_response|>")


def test_what_has_no_words_beside_calls_stays_as_it_is() -> None:
    messages = [QUESTION, {**CALLED, "content": " \n"}, RESULT]
    assert as_written(messages) == messages


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (5, "messages must be a list"),
        (QUESTION, "messages must be a list"),
        ([{"content": "x", "tool_calls": [CALL]}], "messages[0] has role None"),
        ([QUESTION, {**CALLED, "role": "user"}], "messages[1]: only an assistant"),
        ([QUESTION, CALLED, RESULT, {"role": "x"}], "messages[3] has role 'x'"),
    ],
)
def test_errors_count_messages_as_they_were_given(
    processor: Processor, messages: Any, said: str
) -> None:
    with pytest.raises(ChatError, match=re.escape(said)):
        asked(processor, messages)


def call(id: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "weather"}}


def result(id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": f"of {id}"}


def test_results_stand_in_the_order_of_their_calls() -> None:
    """Programs send them as they come; a template writes no ids."""
    first = {"role": "assistant", "tool_calls": [call("a"), call("b"), call("c")]}
    second = {"role": "assistant", "tool_calls": [call("c"), call("a")]}
    messages = [
        {"role": "user", "content": "Paris, Rome, Oslo?"},
        *(first, result("c"), result("a"), result("b")),
        *(second, result("a"), result("c")),
    ]
    assert as_written(messages) == [
        messages[0],
        *(first, result("a"), result("b"), result("c")),
        *(second, result("c"), result("a")),
    ]


def test_results_by_name_stay_where_they_are() -> None:
    calls = {"role": "assistant", "tool_calls": [call("a"), call("b")]}
    named = [{"role": "tool", "name": "weather", "content": text} for text in "12"]
    assert as_written([calls, *named]) == [calls, *named]
