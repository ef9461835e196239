"""What a request of Anthropic's API asks for."""

import json
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from mlx_gemma4.cli.api.messages.asked import Request, request_of
from mlx_gemma4.cli.serve.errors import Refused
from mlx_gemma4.cli.serve.media import MediaRules
from mlx_gemma4.errors import ChatError, MediaError

HI = {"role": "user", "content": "hi"}
TOOL = {"name": "look", "input_schema": {"type": "object", "properties": {}}}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "any", "max_tokens": 9, "messages": [HI], **fields}


def request(**fields: Any) -> Request:
    return request_of(body(**fields), MediaRules())


def test_what_is_asked_reaches_the_model():
    asked = request(
        temperature=0.5, top_p=0.9, top_k=3, stop_sequences=["."], stream=True
    )
    assert asked.asked.options == {
        **{"temperature": 0.5, "top_p": 0.9, "top_k": 3, "stop": ["."]},
        **{"max_tokens": 9},
    }
    assert asked.streams and asked.model == "any" and asked.shows_thoughts


@pytest.mark.parametrize(
    ("thinking", "effort", "expected"),
    [
        (None, "high", (None, None)),
        ({"type": "disabled"}, None, (False, None)),
        ({"type": "enabled", "budget_tokens": 2000}, None, (True, 2000)),
        ({"type": "adaptive"}, None, (True, None)),
        ({"type": "adaptive"}, "low", (True, 1024)),
        ({"type": "adaptive", "display": "omitted"}, "max", (True, None)),
    ],
)
def test_thinking(thinking: Any, effort: str | None, expected: tuple):
    options = request(thinking=thinking, output_config={"effort": effort}).asked.options
    assert (options.get("thinking"), options.get("think_budget")) == expected


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ("auto", True)),
        ({"type": "auto"}, ("auto", True)),
        ({"type": "any", "disable_parallel_tool_use": True}, ("required", False)),
        ({"type": "tool", "name": "look"}, ("look", True)),
        ({"type": "none"}, ("none", True)),
    ],
)
def test_choice_of_a_tool(choice: Any, expected: tuple[str, bool]):
    asked = request(tools=[TOOL], tool_choice=choice).asked
    assert (asked.tool_choice, asked.parallel_calls) == expected


def test_tools_are_declared_as_everywhere():
    marked = {"type": "custom", "cache_control": {"type": "ephemeral"}, "strict": None}
    tools = request(tools=[{**TOOL, **marked, "description": "See."}]).asked.tools
    function = {
        "name": "look",
        "parameters": TOOL["input_schema"],
        "description": "See.",
    }
    assert tools == [{"type": "function", "function": function}]


def test_calls_are_held_to_what_is_declared_where_that_is_asked():
    asked = request(tools=[TOOL, {**TOOL, "name": "see", "strict": True}]).asked
    assert asked.options["strict_tools"]


@pytest.mark.parametrize("place", ["output_config", "output_format"])
def test_form(place: str):
    form = {"type": "json_schema", "schema": {"type": "object"}}
    stated = form if place == "output_format" else {"format": form}
    assert request(**{place: stated}).asked.form == {"schema": {"type": "object"}}


def test_an_answer_that_has_begun():
    begun = {"role": "assistant", "content": "The answer"}
    asked = request(messages=[HI, begun])
    assert asked.begun == "The answer"
    assert [m["role"] for m in asked.asked.messages or ()] == ["user"]
    assert asked.asked.options["begun"]["content"] == "The answer"


def test_what_changes_no_answer_is_passed_over():
    edits = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    request(metadata={"user_id": "x"}, context_management=edits, container=None)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"mcp_servers": [1]}, "mcp_servers is not known"),
    "model": ({"model": 3}, "model must be a string"),
    "no model": ({"model": None}, "model is missing"),
    "no limit": ({"max_tokens": None}, "max_tokens is missing"),
    "limit": ({"max_tokens": 0}, "max_tokens must be 1 or more"),
    "stops": ({"stop_sequences": "x"}, "stop_sequences must be a list"),
    "a stop": ({"stop_sequences": [""]}, "stop_sequences must be"),
    "temperature": ({"temperature": "hot"}, "temperature must be a number"),
    "stream": ({"stream": "yes"}, "stream must be true or false"),
    "thinking": ({"thinking": {"type": "between_tools"}}, "thinking.type must be one"),
    "budget": ({"thinking": {"type": "enabled"}}, "budget_tokens is missing"),
    "effort": ({"output_config": {"effort": "huge"}}, "output_config.effort"),
    "tools": ({"tools": {}}, "tools must be a list"),
    "tool": ({"tools": ["x"]}, "tools.0 must be an object"),
    "server tool": (
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "tools.0.type names a tool of Anthropic's own",
    ),
    "no name": ({"tools": [{**TOOL, "name": None}]}, "tools.0.name is missing"),
    "no schema": ({"tools": [{"name": "f"}]}, "tools.0.input_schema is missing"),
    "choice": ({"tool_choice": {"type": "some"}}, "tool_choice.type must be one"),
    "no choice": ({"tool_choice": {}}, "tool_choice.type is missing"),
    "no tools": ({"tool_choice": {"type": "any"}}, "there are no tools"),
    "no such tool": (
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}},
        "tool_choice.name is none of the tools",
    ),
    "format": (
        {"output_config": {"format": {"type": "text", "schema": {}}}},
        "output_config.format.type can only be 'json_schema'",
    ),
    "no form": ({"output_format": {"type": "json_schema"}}, "schema is missing"),
    "blank end": (
        {"messages": [HI, {"role": "assistant", "content": "So "}]},
        "must not end with a blank",
    ),
    "begun and thinking": (
        {
            "messages": [HI, {"role": "assistant", "content": "So"}],
            "thinking": {"type": "adaptive"},
        },
        "cannot think",
    ),
    "only begun": (
        {"messages": [{"role": "assistant", "content": "So"}]},
        "follow one",
    ),
}


@pytest.mark.parametrize(("fields", "told"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_done_is_refused_by_its_name(fields: dict[str, Any], told: str):
    with pytest.raises((Refused, ChatError), match=told):
        request(**fields)


def test_a_count_needs_no_limit():
    stated = body(max_tokens=None)
    assert request_of(stated, MediaRules(), counts=True).asked.messages == [HI]


def test_whatever_is_sent_is_read_or_refused():
    """500 requests in which something is replaced by what does not belong there."""
    picture = {"type": "image", "source": {"type": "base64", "data": "aGk="}}
    use = {"type": "tool_use", "id": "a", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "a", "content": [picture]}
    whole = body(
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "hi"}, picture]},
            {"role": "assistant", "content": [{"type": "text", "text": "x"}, use]},
            {"role": "user", "content": [result]},
        ],
        system=[{"type": "text", "text": "x"}],
        tools=[TOOL],
        tool_choice={"type": "tool", "name": "look"},
        thinking={"type": "enabled", "budget_tokens": 9},
        output_config={
            "effort": "low",
            "format": {"type": "json_schema", "schema": {}},
        },
        stop_sequences=["x"],
    )
    rng = Random(5)
    for _ in range(500):
        broken = json.loads(json.dumps(whole))
        for _ in range(rng.randint(1, 2)):
            place, key = rng.choice(list(places(broken)))
            place[key] = rng.choice([None, 0, -1, 1e400, "", "x", [], [[]], {}, True])
        with suppress(Refused, ChatError, MediaError):
            request_of(broken, MediaRules())


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value: what holds it, and its key or index there."""
    keys = range(len(value)) if isinstance(value, list) else list(value)
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])
