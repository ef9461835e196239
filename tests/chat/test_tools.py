"""Reading calls, declaring tools, and the way from a call back into a message."""

import json
import math
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
from google_templates import google_template

from mlx_gemma4.chat.calls import ToolCall, openai_call
from mlx_gemma4.chat.splitter import Splitter
from mlx_gemma4.chat.template import ChatTemplate
from mlx_gemma4.chat.tools import parse_call, plain_tools
from mlx_gemma4.errors import ChatError

Q = '<|"|>'


def test_the_example_of_the_format():
    text = (
        f"call:name{{key:{Q}v{Q},n:1,deep:{{a:[1,2,{Q}x{Q}]}},flag:true,none:null,"
        "x:-0.5,y:1e-07}"
    )
    arguments = {"key": "v", "n": 1, "deep": {"a": [1, 2, "x"]}, "flag": True}
    arguments |= {"none": None, "x": -0.5, "y": 1e-07}
    assert parse_call(text) == [ToolCall("name", arguments)]


@pytest.mark.parametrize(
    "name", ["get-weather", "os.path.join", "files/read", "mcp:server:tool", "été_2"]
)
def test_names_of_every_kind(name: str):
    assert parse_call(f"call:{name}{{}}") == [ToolCall(name, {})]


def test_strings_hold_anything():
    value = 'a, b}: {"c"} [1]\n<tool_call|> \\n <|"| "'
    assert parse_call(f"call:f{{s:{Q}{value}{Q},t:1}}") == [
        ToolCall("f", {"s": value, "t": 1})
    ]


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
    assert parse_call(text) == [ToolCall("f", arguments)]


def test_a_whole_number_stays_one():
    (call,) = parse_call("call:f{a:1,b:1.0,c:1e2}")
    assert [type(value) for value in call.arguments.values()] == [int, float, float]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected call:name"),
        ("call:{}", "expected call:name"),
        ("Rome", "expected call:name"),
        ("call:f{", "expected a key"),
        ("call:f{a:1", "expected ',' or '}'"),
        ("call:f{a:[1,2}", "expected ',' or ']'"),
        ("call:f{a:}", "expected a value"),
        (f"call:f{{a:{Q}x}}", "expected a closing"),
        ('call:f{a:"x}', "expected a closed string"),
        ("call:f{a:'x}", "expected a value"),
        ("call:f{a:1,a:2}", "'a' once only"),
        ("call:f{a:1} and more", "the end, or the next call"),
        (f"call:f{{a:{'[' * 5000}", "levels of nesting"),
        ("call:f(1, 2)", "expected call:name"),
        # Each of these can be read in two ways.
        ("call:f{a:see https://x}", "expected a value"),
        ("call:f{a:New b:2}", "expected a value"),
        ("call:f{a:Hello, how are you}", "expected a value"),
        ("call:f{a:1,,b:2}", "expected a key"),
        ("call:f{a:'say, 'go: now', b:'x'}", "expected a value"),
        ("call:f{a:'echo 'x', b:1',n:2}", "expected a value"),
        (f"call:f{{a:{Q}x, b:{Q}y{Q}}}", "expected ',' or '}'"),
        ("call:f{Rome}", "expected a key"),
        ('call:f{text:"say "a", b: "c""}', "expected ',' or '}'"),
        ("call:f{msg:'I said 'hi', name: 'Bob' and left', n:1}", "expected a value"),
        ("call:f{msg:'key: 'v', other: 2}", "expected a value"),
        ('call:f{a:"b" + "c"}', "expected ',' or '}'"),
        ("call:f{a:'b' 'c',n:1}", "expected a value"),
        (f"call:f(a={Q}b{Q} . {Q}c{Q})", "expected call:name"),
        ('{"city": "Rome"}', "expected call:name"),
        ('{"name": "f", "arguments": {"a": NaN}}', "expected call:name"),
        ('{"name": "f", "arguments": [1]}', "expected call:name"),
        ('{"name": "f", "arguments": {"a": 1e999}}', "expected call:name"),
        ('{"name": "f", "arguments": {"a": 1, "a": 2}}', "expected call:name"),
    ],
)
def test_malformed_calls_say_where(text: str, message: str):
    with pytest.raises(ChatError, match="Malformed tool call") as caught:
        parse_call(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("call:f{city:'Paris'}", {"city": "Paris"}),
        ("call:f{city:Paris}", {"city": "Paris"}),
        ("call:f{city:New York,n:2}", {"city": "New York", "n": 2}),
        ("call:f{city:L'Aquila}", {"city": "L'Aquila"}),
        (
            "call:f{a:None,b:True,c:False,d:'None'}",
            {"a": None, "b": True, "c": False, "d": "None"},
        ),
        ("call:f{a:1,}", {"a": 1}),
        ("call:f{a:[1,2,],b:['x' 'y']}", {"a": [1, 2], "b": ["x", "y"]}),
        ("call:f{a:[New York, Rome]}", {"a": ["New York", "Rome"]}),
        ("call:f{a:1 b:true c:2}", {"a": 1, "b": True, "c": 2}),
        ("call:f{a:Rome\nb:Bern}", {"a": "Rome", "b": "Bern"}),
        (f"call:f{{a:{Q}x{Q}b:{Q}y{Q}}}", {"a": "x", "b": "y"}),
        ("call:f{a=1,b=c=d}", {"a": 1, "b": "c=d"}),
        ("call:f(a=1, b='x', c={d: [2]})", {"a": 1, "b": "x", "c": {"d": [2]}}),
        ("call:f()", {}),
        ("call:f", {}),
        ("f{a:1}", {"a": 1}),
        ("call: f {a: 1}", {"a": 1}),
        ("call:f{'a':1,\"b c\":2}", {"a": 1, "b c": 2}),
        (f"call:f{{a:{Q}print({Q}hi{Q}){Q}}}", {"a": f"print({Q}hi{Q})"}),
        ("call:f{a:'it's fine', b:'it\\'s'}", {"a": "it's fine", "b": "it's"}),
        ("call:f{a:'}', b:'x, y'}", {"a": "}", "b": "x, y"}),
        ('call:f{a:"say "hi" now"}', {"a": 'say "hi" now'}),
        ('call:f{a:"two\nlines"}', {"a": "two\nlines"}),
        ("call:f{a:'C:\\\\dir'}", {"a": "C:\\dir"}),
        (r"call:f{a:'C:\new\temp file.txt'}", {"a": r"C:\new\temp file.txt"}),
        (r'call:f{a:"d:\new",b:1}', {"a": r"d:\new", "b": 1}),
        (r'call:f{a:"C:\\new"}', {"a": r"C:\new"}),
        (r'call:f{a:"Q:\nWhat"}', {"a": "Q:\nWhat"}),
        (r'call:f{a:"Q:\notes.txt"}', {"a": r"Q:\notes.txt"}),
        (r"call:f{a:'A:\nyes'}", {"a": "A:\nyes"}),
        (r"call:f{a:'\d+\n'}", {"a": r"\d+\n"}),
        ("call:f{a:'print('x' + 'y')'}", {"a": "print('x' + 'y')"}),
        (
            "call:f{url:https://x.y/z?a=1,day:2026-01-02,at:12:30}",
            {"url": "https://x.y/z?a=1", "day": "2026-01-02", "at": "12:30"},
        ),
        ("call:f{a:007,b:nan,c:1e999}", {"a": "007", "b": "nan", "c": "1e999"}),
        (f"call:f{{a:{'9' * 5000}}}", {"a": "9" * 5000}),
        ('{"name": "f", "arguments": {"a": 1}}', {"a": 1}),
        ('{"function": {"name": "f", "arguments": "{\\"a\\": 1}"}}', {"a": 1}),
        ('{"name": "f", "parameters": {}}', {}),
    ],
)
def test_what_can_only_be_meant_in_one_way_is_read(
    text: str, arguments: dict[str, Any]
):
    assert parse_call(text) == [ToolCall("f", arguments)]


def test_several_calls_in_order():
    expected = [ToolCall("a", {"x": "1"}), ToolCall("b", {"y": 2}), ToolCall("a", {})]
    strict = f"call:a{{x:{Q}1{Q}}}call:b{{y:2}}call:a{{}}"
    for text in (strict, "call:a{x:'1'}, call:b(y=2);\ncall:a"):
        assert parse_call(text) == expected
        assert parse_call(f"<|tool_call>{text}<tool_call|>") == expected
    listed = '[{"name": "a", "arguments": {"x": "1"}}, {"name": "a"}]'
    assert parse_call(listed) == [expected[0], expected[2]]


def test_arguments_as_python_and_json_write_them():
    rng = Random(9)
    for _ in range(500):
        arguments = {
            re.sub(r"\W", "_", key): value for key, value in arguments_of(rng).items()
        }
        call = [ToolCall("f", arguments)]
        keywords = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        assert parse_call(f"call:f({keywords})") == call
        assert parse_call(f"call:f{arguments!r}") == call
        written = json.dumps(arguments, indent=rng.choice([None, 2]))
        assert parse_call(f"call:f{written}") == call
        assert parse_call(f'{{"name": "f", "arguments": {written}}}') == call


def test_ten_thousand_calls_in_pieces():
    """Never anything but calls or one kind of error, and soon."""
    rng = Random(8)
    pieces = f"call: f g {{ }} ( ) [ ] , : = {Q} ' \" \\ a b 1 -2.5 True null é".split()
    pieces += [" ", "\n", "call:f{", "a:", "b='", '{"name":"f"']
    read = 0
    for _ in range(10_000):
        text = "".join(rng.choices(pieces, k=rng.randrange(1, 24)))
        text = rng.choice([text, f"call:f{{a:{text}}}", f"call:f(a={text[:9]})"])
        try:
            calls = parse_call(text)
        except ChatError:
            continue
        read += 1
        assert calls and all(call.name for call in calls)
        json.dumps([call.arguments for call in calls], allow_nan=False)
    assert read > 500


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
    for _ in range(120):
        call = ToolCall(rng.choice(["f", "ns:a.b/c-d"]), arguments_of(rng))
        messages = [
            {"role": "user", "content": "go"},
            {"role": "assistant", "tool_calls": [openai_call(call, "1")]},
        ]
        rendered = template.render(messages, add_generation_prompt=False).text
        splitter = Splitter()
        pieces = splitter.feed(rendered.partition("model\n")[2]) + splitter.finish()
        assert [piece.kind for piece in pieces] == ["tool_call"]
        assert parse_call(pieces[0].text) == [call]


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
