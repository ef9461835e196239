"""The events that tell of an answer, checked by OpenAI's own types."""

from typing import Any

import pytest

from mlx_gemma4 import Chunk, ToolCall
from mlx_gemma4.cli.api.responses.declared import Name
from mlx_gemma4.cli.api.responses.written import Event, Written
from mlx_gemma4.cli.api.sealed import unsealed

responses = pytest.importorskip("openai.types.responses", reason="needs openai")
pydantic = pytest.importorskip("pydantic", reason="needs openai's pydantic")

NAMES = {
    "agents.ask": Name("ask", "agents"),
    "patch": Name("patch", custom=True),
}
ANSWER = (
    Chunk("", 1, thought="Let me "),
    Chunk("", 2, thought="see."),
    Chunk("I ", 3),
    Chunk("look.", 4),
    Chunk("", 5, tool_calls=(ToolCall("look", {"at": "é"}), ToolCall("look", {}))),
    Chunk("", 6, tool_calls=(ToolCall("agents.ask", {"who": 1}),)),
    Chunk("", 7, tool_calls=(ToolCall("patch", {"input": "*** Begin"}),)),
    Chunk("", 8, finish_reason="tool_calls"),
)


def told(written: Written) -> list[Event]:
    events = [event for chunk in ANSWER for event in written.take(chunk)]
    return [*events, *written.close()]


def check(events: list[Event]) -> None:
    kind = pydantic.TypeAdapter(responses.ResponseStreamEvent)
    for number, event in enumerate(events):
        kind.validate_python({**event, "sequence_number": number})


@pytest.mark.parametrize("summarized", [False, True])
def test_events_are_those_of_the_api(summarized: bool) -> None:
    check(told(Written(NAMES, summarized, sealed=True)))


def test_order_of_events() -> None:
    kinds = [event["type"].removeprefix("response.") for event in told(Written({}))]
    around = ["content_part.done", "output_item.done"]
    assert kinds[:2] == ["output_item.added", "content_part.added"]
    assert kinds[2:5] == [*["reasoning_text.delta"] * 2, "reasoning_text.done"]
    assert kinds[5:9] == [*around, "output_item.added", "content_part.added"]
    assert kinds[9:12] == [*["output_text.delta"] * 2, "output_text.done"]
    assert kinds[12:14] == around
    call = ("output_item.added", "function_call_arguments.delta")
    call += ("function_call_arguments.done", "output_item.done")
    assert tuple(kinds[14:18]) == call


def test_items_are_what_the_events_told() -> None:
    written = Written(NAMES, sealed=True)
    events = told(written)
    done = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    assert done == written.items
    assert [item["type"] for item in done] == [
        *("reasoning", "message", "function_call", "function_call", "function_call"),
        "custom_tool_call",
    ]
    thought, message, first, second, asked, patch = done
    assert thought["content"] == [{"type": "reasoning_text", "text": "Let me see."}]
    assert unsealed(thought["encrypted_content"]) == "Let me see."
    assert message["content"][0]["text"] == "I look."
    assert first["arguments"] == '{"at": "é"}'
    assert first["call_id"] != second["call_id"]
    assert (asked["name"], asked["namespace"]) == ("ask", "agents")
    assert (patch["name"], patch["input"]) == ("patch", "*** Begin")
    added = [e["item"] for e in events if e["type"] == "response.output_item.added"]
    assert [i["id"] for i in added] == [i["id"] for i in done]
    assert added[1]["content"] == [] and added[2]["arguments"] == ""


def test_what_was_cut_says_so() -> None:
    written = Written({})
    events: list[Any] = [*written.take(Chunk("Half", 1)), *written.close("incomplete")]
    assert events[-1]["item"]["status"] == "incomplete"
