"""Items of the Responses API as messages, and its tools as the template takes them."""

from typing import Any

import pytest

from mlx_gemma4.chat.messages import plain_messages
from mlx_gemma4.cli.api.fields import Fields
from mlx_gemma4.cli.api.responses.declared import Name, declared
from mlx_gemma4.cli.api.responses.reading import Message, messages_of
from mlx_gemma4.cli.api.sealed import seal
from mlx_gemma4.cli.serve.errors import Refused
from mlx_gemma4.cli.serve.media import MediaRules

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "name": "get_weather", "parameters": CITY}
PATCH = {"type": "custom", "name": "patch", "description": "Patches."}


def heard(instructions: str | None, items: Any) -> list[Message]:
    return messages_of(instructions, items, MediaRules())


def said(role: str, *texts: str) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": text} for text in texts]
    return {"type": "message", "role": role, "content": content}


def call(number: int, name: str = "get_weather") -> dict[str, Any]:
    given = {"name": name, "arguments": '{"city": "Rome"}'}
    return {"type": "function_call", "call_id": f"call_{number}", **given}


def output(number: int, text: str = "sunny") -> dict[str, Any]:
    ids = {"type": "function_call_output", "call_id": f"call_{number}"}
    return {**ids, "output": text}


def thought(**how: Any) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs_1", "summary": [], **how}


def test_one_system_message_stands_in_front() -> None:
    items = [
        said("developer", "Be precise."),
        said("system", "Be kind.", "Be brief."),
        said("user", "<environment/>"),
        said("user", "Hello."),
        said("developer", "From now on in French."),
    ]
    messages = heard("You are Gemma.", items)
    system = "You are Gemma.\n\nBe precise.\n\nBe kind.\n\nBe brief."
    assert messages[0] == {"role": "system", "content": system}
    assert [m["role"] for m in messages[1:]] == ["user", "user", "system"]


def test_items_of_a_turn_keep_their_order() -> None:
    """Text, then calls, as the model wrote them; results behind their calls, and those
    called together in one message."""
    items = [
        said("user", "And?"),
        thought(content=[{"type": "reasoning_text", "text": "Look."}]),
        said("assistant", "I look."),
        call(1),
        call(2),
        output(2, "rainy"),
        said("developer", "Hurry."),
        output(1),
        said("assistant", "Sunny."),
    ]
    messages = heard(None, items)
    roles = [message["role"] for message in messages]
    assert roles == "user assistant assistant tool tool system assistant".split()
    assert messages[1]["reasoning"] == "Look."
    assert [c["id"] for c in messages[2]["tool_calls"]] == ["call_1", "call_2"]
    assert [m["content"] for m in messages[3:5]] == ["rainy", "sunny"]
    arguments = plain_messages(messages)[2]["tool_calls"][0]["function"]["arguments"]
    assert arguments == {"city": "Rome"}


def test_calls_one_after_another_are_turns() -> None:
    items = [said("user", "Go."), call(1), output(1), call(2), output(2)]
    roles = [message["role"] for message in heard(None, items)]
    assert roles == "user assistant tool assistant tool".split()


def test_calls_without_outputs_are_refused() -> None:
    items = [said("user", "Go."), call(1), call(2), output(1), said("user", "Well?")]
    with pytest.raises(Refused, match="no output of call_2: "):
        heard(None, items)


@pytest.mark.parametrize(
    "item",
    [
        thought(content=[{"type": "reasoning_text", "text": "Hm."}]),
        thought(summary=[{"type": "summary_text", "text": "Hm."}]),
        thought(encrypted_content=seal("Hm.")),
    ],
)
def test_a_thought_comes_back_in_each_form(item: dict[str, Any]) -> None:
    messages = heard(None, [said("user", "Go."), item, call(1), output(1)])
    assert messages[1]["reasoning"] == "Hm."
    assert messages[1]["tool_calls"]


def test_what_another_server_sealed_says_nothing() -> None:
    items = [thought(encrypted_content="gAAAAABo"), said("assistant", "Yes.")]
    assert "reasoning" not in heard(None, items)[0]


def test_a_thought_without_an_answer_stays() -> None:
    item = thought(summary=[{"type": "summary_text", "text": "Hm."}])
    messages = heard(None, [said("user", "Go."), item, said("user", "Well?")])
    assert messages[1] == {"role": "assistant", "content": "", "reasoning": "Hm."}


def test_media_are_read_by_the_rules() -> None:
    url = "data:image/png;base64,AAAA"
    sound = {"data": "AAAA", "format": "wav"}
    content = [
        {"type": "input_text", "text": "See"},
        {"type": "input_text", "text": "this:"},
        {"type": "input_image", "image_url": url, "detail": "auto"},
        {"type": "input_audio", "input_audio": sound},
    ]
    (message,) = heard(None, [{"role": "user", "content": content}])
    assert message["content"] == [
        {"type": "text", "text": "See\n\nthis:"},
        {"type": "image", "image": b"\0\0\0"},
        {"type": "audio", "audio": b"\0\0\0"},
    ]
    result = {**output(1), "output": content[2:3]}
    messages = heard(None, [said("user", "Go."), call(1), result])
    assert messages[-1]["content"][0]["type"] == "image"


@pytest.mark.parametrize(
    ("items", "param"),
    [
        ([3], "input[0]"),
        ([{"type": "item_reference", "id": "msg_1"}], "input[0]"),
        ([{"role": "tool", "content": "x"}], "input[0].role"),
        ([{"role": "user"}], "input[0].content"),
        (
            [{"role": "user", "content": [{"type": "input_file"}]}],
            "input[0].content[0]",
        ),
        ([{"role": "user", "content": [{"type": [1]}]}], "input[0].content[0]"),
        ([output(1)], "input[0].call_id"),
        ([{**output(1), "call_id": [1]}], "input[0].call_id"),
        ([{"type": "function_call", "name": "f"}], "input[0]"),
        ([{"type": {}}], "input[0]"),
    ],
)
def test_what_is_not_understood_is_named(items: Any, param: str) -> None:
    with pytest.raises(Refused) as refused:
        heard(None, items)
    assert (refused.value.status, refused.value.param) == (400, param)


def test_tools_of_a_namespace_and_tools_of_text() -> None:
    agents = {"type": "namespace", "name": "agents", "tools": [WEATHER]}
    grammar = {"type": "grammar", "syntax": "lark", "definition": 'start: "x"'}
    tools = [WEATHER, agents, {**PATCH, "format": grammar}, {"type": "web_search"}]
    found = declared(Fields({"tools": tools}))
    assert list(found.names) == ["get_weather", "agents.get_weather", "patch"]
    assert found.names["agents.get_weather"] == Name("get_weather", "agents")
    assert found.tools[0] == {
        "type": "function",
        "function": {"name": "get_weather", "parameters": CITY},
    }
    function = found.tools[2]["function"]
    assert function["parameters"]["required"] == ["input"]
    assert 'lark grammar:\nstart: "x"' in function["description"]
    assert found.stated == tools[:3]
    assert found.left_out == ["web_search"]


@pytest.mark.parametrize(
    ("choice", "chosen", "names"),
    [
        (None, "auto", ["get_weather", "patch"]),
        ("required", "required", ["get_weather", "patch"]),
        ({"type": "function", "name": "get_weather"}, "get_weather", None),
        ({"type": "custom", "name": "patch"}, "patch", None),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [PATCH]},
            "required",
            ["patch"],
        ),
    ],
)
def test_choices(choice: Any, chosen: str, names: list[str] | None) -> None:
    found = declared(Fields({"tools": [WEATHER, PATCH], "tool_choice": choice}))
    assert found.choice == chosen
    if names is not None:
        assert list(found.names) == names
        assert [tool["function"]["name"] for tool in found.tools] == names


@pytest.mark.parametrize(
    ("tools", "choice", "param"),
    [
        ({}, None, "tools"),
        ([3], None, "tools"),
        ([{"type": "function"}], None, "tools[0]"),
        ([{"type": "code_interpreter"}], None, "tools[0]"),
        ([{"type": [1]}], None, "tools[0]"),
        ([WEATHER, WEATHER], None, "tools[1]"),
        ([{"type": "namespace", "name": "a", "tools": 3}], None, "tools[0].tools"),
        ([{"type": "namespace", "tools": [WEATHER]}], None, "tools[0].name"),
        ([WEATHER], "always", "tool_choice"),
        ([], "required", "tool_choice"),
        ([{**WEATHER, "strict": 3}], None, "tools[0].strict"),
        ([WEATHER], ["auto"], "tool_choice"),
        ([WEATHER], {"type": "function", "name": "other"}, "tool_choice"),
        ([WEATHER], {"type": "allowed_tools", "tools": 3}, "tool_choice.tools"),
        ([{"type": "web_search"}], {"type": "web_search"}, "tool_choice"),
    ],
)
def test_tools_that_cannot_be_declared(tools: Any, choice: Any, param: str) -> None:
    with pytest.raises(Refused) as refused:
        declared(Fields({"tools": tools, "tool_choice": choice}))
    assert (refused.value.status, refused.value.param) == (400, param)
