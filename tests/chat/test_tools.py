"""Reading calls, declaring tools, and the way from a call back into a message."""

import math
from pathlib import Path
from random import Random
from typing import Any

import pytest
from google_templates import google_template

from mlx_gemma4.chat.splitter import Splitter
from mlx_gemma4.chat.template import ChatTemplate
from mlx_gemma4.chat.tools import ToolCall, openai_call, parse_call, plain_tools
from mlx_gemma4.errors import ChatError

Q = '<|"|>'


def test_the_example_of_the_format():
    text = (
        f"call:name{{key:{Q}v{Q},n:1,deep:{{a:[1,2,{Q}x{Q}]}},flag:true,none:null,"
        "x:-0.5,y:1e-07}"
    )
    arguments = {"key": "v", "n": 1, "deep": {"a": [1, 2, "x"]}, "flag": True}
    arguments |= {"none": None, "x": -0.5, "y": 1e-07}
    assert parse_call(text) == ToolCall("name", arguments)


@pytest.mark.parametrize(
    "name", ["get-weather", "os.path.join", "files/read", "mcp:server:tool", "été_2"]
)
def test_names_of_every_kind(name: str):
    assert parse_call(f"call:{name}{{}}") == ToolCall(name, {})


def test_strings_hold_anything():
    value = 'a, b}: {"c"} [1]\n<tool_call|> \\n <|"| "'
    assert parse_call(f"call:f{{s:{Q}{value}{Q},t:1}}").arguments == {
        "s": value,
        "t": 1,
    }


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (f"call:f{{{Q}a b{Q}:1}}", {"a b": 1}),
        ("call:f{a-b.c:1}", {"a-b.c": 1}),
        ("call:f{ a : [ 1 , { b : null } ] }", {"a": [1, {"b": None}]}),
        ('call:f{a:"x\\n\\"}",b:2}', {"a": 'x\n"}', "b": 2}),
        (":f{a:[]}", {"a": []}),
        ("<|tool_call>call:f{a:{}}<tool_call|>", {"a": {}}),
        ("call:f{a:12345678901234567890}", {"a": 12345678901234567890}),
    ],
)
def test_spellings_that_are_read(text: str, arguments: dict[str, Any]):
    assert parse_call(text) == ToolCall("f", arguments)


def test_a_whole_number_stays_one():
    arguments = parse_call("call:f{a:1,b:1.0,c:1e2}").arguments
    assert [type(value) for value in arguments.values()] == [int, float, float]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected call:name"),
        ("call:f", "expected call:name"),
        ("call:{}", "expected call:name"),
        ("call:f(a=1)", "expected call:name"),
        ("call:f{", "expected a key"),
        ("call:f{a:1", "expected ',' or '}'"),
        ("call:f{a:1,}", "expected a key"),
        ("call:f{a:[1,2}", "expected ',' or ']'"),
        ("call:f{a:Rome}", "expected a value"),
        ("call:f{a:}", "expected a value"),
        ("call:f{a:007}", "expected a value"),
        ("call:f{a:nan}", "expected a value"),
        ("call:f{a:1e999}", "expected a finite number"),
        (f"call:f{{a:{'9' * 5000}}}", "expected a shorter number"),
        (f"call:f{{a:{Q}x}}", "expected a closing"),
        ('call:f{a:"x}', "expected a closed string"),
        ("call:f{a:1,a:2}", "'a' once only"),
        ("call:f{a:1} and more", "the end of the call"),
        (f"call:f{{a:{'[' * 5000}", "levels of nesting"),
    ],
)
def test_malformed_calls_say_where(text: str, message: str):
    with pytest.raises(ChatError, match="Malformed tool call") as caught:
        parse_call(text)
    assert message in str(caught.value)


def test_a_call_goes_back_into_a_message():
    call = ToolCall("f", {"a": 1})
    assert openai_call(call, "call_0") == {
        "type": "function",
        "id": "call_0",
        "function": {"name": "f", "arguments": {"a": 1}},
    }


def arguments_of(rng: Random, depth: int = 0) -> dict[str, Any]:
    keys = ["a", "b_2", "C", "with space", "dash-ed", "dot.ted", "ü", "call"]
    chosen = rng.sample(keys, rng.randrange(4))
    return {key: value_of(rng, depth) for key in chosen}


def value_of(rng: Random, depth: int) -> Any:
    texts = ["", "Rome", "a,b", "}", "{:[", "\n\n", '"', "<|", "<tool_call|>", "null"]
    numbers = [0, -7, 2**70, 0.1, -1.5e-9, 1e22, math.pi, 100.0]
    kind = rng.randrange(5 if depth < 3 else 3)
    if kind == 0:
        return "".join(rng.choice(texts) for _ in range(rng.randrange(4)))
    if kind == 1:
        return rng.choice(numbers)
    if kind == 2:
        return rng.choice([True, False, None])
    if kind == 3:
        return [value_of(rng, depth + 1) for _ in range(rng.randrange(4))]
    return arguments_of(rng, depth + 1)


@pytest.mark.parametrize("source", ["demo", "small", "large"])
def test_parsing_is_the_inverse_of_rendering(demo_folder: Path, source: str):
    demo = (demo_folder / "chat_template.jinja").read_text(encoding="utf-8")
    template = ChatTemplate(
        demo if source == "demo" else google_template(source), "<bos>"
    )
    rng = Random(3)
    for _ in range(300):
        call = ToolCall(rng.choice(["f", "ns:a.b/c-d"]), arguments_of(rng))
        messages = [
            {"role": "user", "content": "go"},
            {"role": "assistant", "tool_calls": [openai_call(call, "1")]},
        ]
        rendered = template.render(messages, add_generation_prompt=False).text
        splitter = Splitter()
        pieces = splitter.feed(rendered.partition("model\n")[2]) + splitter.finish()
        assert [piece.kind for piece in pieces] == ["tool_call"]
        assert parse_call(pieces[0].text) == call


WEATHER = {
    "name": "get_weather",
    "description": "The weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def test_tools_are_taken_in_both_shapes():
    expected = [{"type": "function", "function": WEATHER}]
    assert plain_tools([WEATHER]) == expected
    assert plain_tools(expected) == expected


def test_a_schema_without_type_is_an_object():
    (tool,) = plain_tools([{"name": "f", "parameters": {"properties": {}}}])
    assert tool["function"]["parameters"]["type"] == "object"


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ([{"description": "x"}], r"tools\[0\] names no function"),
        ([WEATHER, {"function": 3}], r"tools\[1\] names no function"),
        ([{**WEATHER, "description": {1, 2}}], r"tools\[0\] cannot be written as JSON"),
        ([{**WEATHER, "x": math.nan}], r"tools\[0\] cannot be written as JSON"),
        ([{"name": "f", "parameters": [1]}], "must be a JSON schema"),
        ([len], r"tools\[0\] is a builtin_function"),
        (WEATHER, "must be a list"),
    ],
)
def test_malformed_declarations_are_named(tools: Any, message: str):
    with pytest.raises(ChatError, match=message):
        plain_tools(tools)
