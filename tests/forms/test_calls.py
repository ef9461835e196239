"""Calls that are held to what their tools declare: by construction, closed in time,
refused where that cannot be."""

import random
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_map

from mlx_gemma4 import Gemma4, Processor, Response, generate, load
from mlx_gemma4.chat.calls import parse_strictly
from mlx_gemma4.chat.tools import ToolWarning, plain_tools
from mlx_gemma4.errors import ChatError, install_command
from mlx_gemma4.forms.calls import Calls, calls_of
from mlx_gemma4.forms.form import vocabulary_of
from mlx_gemma4.forms.guide import Guide
from mlx_gemma4.generation.answer import Writer
from mlx_gemma4.tools.foreign import declaration

pytest.importorskip("llguidance", reason="needs the extra: pip install .[json]")

Loaded = tuple[Gemma4, Processor]
Q = '<|"|>'


def tool(name: str, fields: dict[str, Any], *required: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": fields, "required": list(required)}
    return {"name": name, "parameters": parameters}


CITY = {"city": {"type": "string", "description": "Name of the city."}}
WEATHER = {**tool("get_weather", CITY, "city"), "description": "Get the weather."}
MINUTES = {"minutes": {"type": "integer", "description": "Length in minutes."}}
TIMER = {**tool("set_timer", MINUTES, "minutes"), "description": "Start a timer."}
TOOLS = [WEATHER, TIMER]


@pytest.fixture(scope="module")
def demo(demo_folder: Path) -> Loaded:
    return load(demo_folder)


@pytest.fixture(scope="module")
def wild(demo_folder: Path) -> Loaded:
    """The demo's shape with random weights."""
    model, processor = load(demo_folder)
    mx.random.seed(0)
    model.language_model.update(
        tree_map(
            lambda x: mx.random.normal(x.shape) * 0.05 if x.ndim > 1 else x,
            model.language_model.parameters(),
        )
    )
    return model, processor


def answer(loaded: Loaded, asked: str = "Hi", **options: Any) -> Response:
    model, processor = loaded
    options = {"tools": TOOLS, "temperature": 0, "max_tokens": 60, **options}
    return generate(model, processor, asked, **options)


def drawn(loaded: Loaded, **options: Any) -> Response:
    """An answer of random weights, whatever they like."""
    wild = {"temperature": 2.0, "top_p": 1.0, "top_k": 0, "seed": 1, "max_tokens": 40}
    return answer(loaded, **{**wild, **options})


class Follower:
    """Says which calls the declarations of some tools allow."""

    def __init__(self, processor: Processor, *tools: dict[str, Any]) -> None:
        self._tokenizer = processor.tokenizer
        calls = calls_of(tools, self._tokenizer.special_tokens, strict=True)
        assert calls is not None and calls.form is not None
        ends = processor.generation.stop_tokens
        self._matcher = calls.form.matcher(vocabulary_of(self._tokenizer, ends))

    def takes(self, text: str) -> bool:
        self._matcher.reset()
        parts = re.split("(?<=<)(?=eos>)", text + "<tool_call|>")  # a quoted mark
        tokens = [token for part in parts for token in self._tokenizer.encode(part)]
        taken = self._matcher.try_consume_tokens(tokens)
        return taken == len(tokens) and self._matcher.is_accepting()


def one(demo: Loaded, schema: Any, required: bool = True) -> Follower:
    """Of a tool f with an argument a."""
    return Follower(demo[1], tool("f", {"a": schema}, *["a"] * required))


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"type": "string"}, [f"{Q}Ro{{m\n\"e'é{Q}", f"{Q}{Q}"], ["Rome", '"x"']),
        ({"enum": ["C", "<eos>", 3]}, [f"{Q}C{Q}", f"{Q}<eos>{Q}", "3"], [f"{Q}F{Q}"]),
        ({"const": {"b": [None], "B": 1}}, ["{b:[null],B:1}"], ["{B:1,b:[null]}"]),
        ({"type": "integer"}, ["0", "-12"], ["1.5", "01", "1e3", f"{Q}1{Q}"]),
        ({"type": "number"}, ["0", "-1.50", "2e-3"], [".5", "1.", "1e999", "NaN"]),
        ({"type": "integer", "minimum": 3}, ["3", "1234567890123456789"], ["2", "-3"]),
        ({"type": "integer", "minimum": -(2**63), "maximum": 2**64}, ["-7"], ["7.5"]),
        ({"type": "number", "maximum": 1e20}, ["1.5", "-8"], ["1e3"]),
        ({"enum": ["\x7f"], "x-of": 1, "example": "a"}, [f"{Q}\x7f{Q}"], [f"{Q}a{Q}"]),
        (tool("", {"\n": {}})["parameters"], [f"{{{Q}\n{Q}:1}}"], ["{\n:1}"]),
        ({"type": "number", "exclusiveMaximum": 3}, ["2.9", "-8"], ["3", "3.1"]),
        ({"type": "boolean"}, ["true", "false"], ["True", "null"]),
        ({"type": ["string", "null"]}, ["null", f"{Q}x{Q}"], ["1"]),
        ({"type": "integer", "nullable": True}, ["null", "1"], ["true"]),
        ({"type": "string", "maxLength": 2}, [f"{Q}ab{Q}", f"{Q}{Q}"], [f"{Q}abc{Q}"]),
        ({"type": "string", "pattern": "^/a"}, [f"{Q}/a/b{Q}"], [f"{Q}b/a{Q}"]),
        ({"type": "string", "pattern": r"/\$"}, [f"{Q}a/$b{Q}"], [f"{Q}a/{Q}"]),
        ({"type": "string", "pattern": "b$"}, [f"{Q}a\nb{Q}"], [f"{Q}ba{Q}"]),
        (
            {"type": "array", "items": {"type": "integer"}, "minItems": 1},
            ["[1]", "[1,2,3]"],
            ["[]", "[null]"],
        ),
        ({"type": "array", "maxItems": 1}, ["[]", "[{a:1}]"], ["[1,2]"]),
        ({"anyOf": [{"type": "integer"}, {"const": "x"}]}, ["1", f"{Q}x{Q}"], ["1.5"]),
        ({"type": "object"}, ["{}", f"{{x:1,{Q}y z{Q}:[null]}}"], ["[]", "{x}"]),
        (
            {
                "type": "object",
                "propertyNames": {"type": "string"},
                "additionalProperties": {"type": "integer"},
            },
            ["{}", "{x:1,y:2}"],
            ["{x:null}"],
        ),
        (
            tool("", {"b": {"type": "null"}, "A c": {}, "{": {}}, "b")["parameters"],
            ["{b:null}", f"{{A c:[1],b:null,{Q}{{{Q}:1}}", "{A c:1,b:null}"],
            ["{}", "{A c:1}", "{b:null,A c:1}", "{b:null,x:1}"],
        ),
        ({}, ["null", f"[{Q}x{Q}]", "{x:{y:1}}"], ["x", "[[[[1]]]]"]),
    ],
)
def test_values(demo: Loaded, schema: Any, right: list[str], wrong: list[str]) -> None:
    follower = one(demo, schema)
    for value in right:
        assert follower.takes(f"call:f{{a:{value}}}"), value
        parse_strictly(f"call:f{{a:{value}}}")
    for value in wrong:
        assert not follower.takes(f"call:f{{a:{value}}}"), value


def test_names_and_what_may_be_missing(demo: Loaded) -> None:
    follower = Follower(demo[1], WEATHER, TIMER, {"name": "ns.no-thing"})
    assert follower.takes(f"call:get_weather{{city:{Q}Rome{Q}}}")
    assert follower.takes("call:set_timer{minutes:3}")
    assert follower.takes("call:ns.no-thing{}")
    for text in ("call:get_weather{}", "call:set_time{minutes:3}", "set_timer{}"):
        assert not follower.takes(text)
    assert not follower.takes("call:ns.no-thing{a:1}")
    assert one(demo, {"type": "integer"}, required=False).takes("call:f{}")


def test_references_and_what_is_combined(demo: Loaded) -> None:
    unit = {"enum": ["C", "F"]}
    place = {"type": "object", "properties": {"x": {"type": "integer"}}}
    parameters = {
        "$defs": {"Unit": unit, "Place": place},
        "allOf": [
            {"properties": {"unit": {"$ref": "#/$defs/Unit", "description": "which"}}},
            {"properties": {"at": {"allOf": [{"$ref": "#/$defs/Place"}]}}},
        ],
        "anyOf": [{"required": ["unit"]}, {"required": ["at"]}],
    }
    follower = Follower(demo[1], {"name": "f", "parameters": parameters})
    assert follower.takes(f"call:f{{unit:{Q}C{Q}}}")
    assert follower.takes(f"call:f{{at:{{x:1}},unit:{Q}C{Q}}}")
    assert not follower.takes("call:f{}")
    kinds = [{"type": "integer"}, {"type": "string"}]
    assert one(demo, {"oneOf": kinds}).takes("call:f{a:1}")


def test_what_templates_cannot_say_is_held_as_well(demo: Loaded) -> None:
    """Declarations are brought into their words before anything is generated."""
    (plain,) = plain_tools([tool("f", {"a": {"enum": [8, 9]}}, "a")])
    assert "enum" not in plain["function"]["parameters"]["properties"]["a"]
    (again,) = plain_tools([plain])
    follower = Follower(demo[1], again)
    assert follower.takes("call:f{a:9}") and not follower.takes("call:f{a:7}")
    served = declaration("f", "", {"properties": {"a": {"maximum": 7}}})
    follower = Follower(demo[1], served)
    assert follower.takes("call:f{a:7}") and not follower.takes("call:f{a:8}")


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"not": {}}, "The tool f: its calls cannot be held to not in its schema"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "string", "pattern": "(?=x)y"}, "look-around"),
        ({"type": "integer", "minimum": 5, "maximum": 2}, "minimum (5) is greater"),
        ({"type": "text"}, "the type 'text'"),
        ({"type": "number", "minimum": 10**30}, "minimum 1000000"),
        ({"type": "object", "required": [1]}, "1 as what is required"),
        ({"type": "array", "maxItems": "3"}, "maxItems '3'"),
        ({"type": "string", "minLength": -1}, "minLength -1"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf where"),
        ({"allOf": [{"minimum": 1}, {"minimum": 2}]}, "two of minimum"),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, "contradict"),
        ({"enum": [f"a{Q}"]}, f"a listed value with {Q}"),
        ({"enum": ["a"], "type": "integer"}, "an enum without any value"),
        ({"$ref": "#/$defs/x"}, "#/$defs/x"),
        ({"$ref": "#"}, "within itself"),
        (False, "the schema False"),
    ],
)
def test_what_is_refused(demo: Loaded, schema: Any, said: str) -> None:
    with pytest.raises(ChatError, match=re.escape(said)):
        one(demo, schema)


def test_parameters_are_an_object(demo: Loaded) -> None:
    parameters = {"type": ["object", "null"], "nullable": True}
    follower = Follower(demo[1], {"name": "f", "parameters": parameters})
    assert follower.takes("call:f{}") and not follower.takes("call:fnull")
    with pytest.raises(ChatError, match="x-parameters is no JSON schema object"):
        Follower(demo[1], {"function": {"name": "f"}, "x-parameters": 5})
    with pytest.raises(ChatError, match="parameters of the type string"):
        Follower(demo[1], {"name": "f", "parameters": {"type": "string"}})


def test_a_call_that_nothing_satisfies(demo: Loaded) -> None:
    """It is not left open, with an end of the turn within it."""
    word = {"type": "string", "pattern": "^[a-z]{5}$", "maxLength": 3}
    with (
        pytest.warns(ToolWarning),
        pytest.raises(ChatError, match="cannot be held to its tool: nothing fits"),
    ):
        answer(demo, tools=[tool("f", {"a": word}, "a")], tool_choice="required")


@pytest.mark.slow
def test_the_model_calls_as_it_would_without(demo: Loaded) -> None:
    free = answer(demo, "What is the weather in Rome?")
    held = answer(demo, "What is the weather in Rome?", strict_tools=True)
    assert held.tokens == free.tokens and held.tool_calls == free.tool_calls
    assert held.finish_reason == "tool_calls"


@pytest.mark.slow
def test_a_choice_beside_a_thought_and_a_form(demo: Loaded) -> None:
    asked = "What is the weather in Rome?"
    thought = answer(demo, asked, tool_choice="required", thinking=True)
    assert thought.thought and thought.tool_calls
    beside = answer(demo, asked, strict_tools=True, schema="city, sky")
    assert [call.name for call in beside.tool_calls] == ["get_weather"]


@pytest.mark.slow
def test_a_choice(demo: Loaded) -> None:
    asked = "What is the weather in Rome?"
    silent = answer(demo, asked, tool_choice="none", max_tokens=9)
    assert not silent.tool_calls and silent.text
    needed = answer(demo, "What is the capital of France?", tool_choice="required")
    assert needed.tool_calls and needed.finish_reason == "tool_calls"
    named = answer(demo, asked, tool_choice="set_timer")
    assert [call.name for call in named.tool_calls] == ["set_timer"]


def test_a_budget(demo: Loaded) -> None:
    asked = "What is the weather in Rome?"
    closed = answer(demo, asked, strict_tools=True, max_tokens=7)
    assert closed.finish_reason == "closed" and len(closed.tool_calls) == 1
    said = answer(demo, "The capital of France?", strict_tools=True, max_tokens=2)
    assert said.finish_reason == "length" and len(said.tokens) == 2


@pytest.mark.slow
def test_a_budget_that_is_spent_elsewhere(demo: Loaded) -> None:
    asked = "What is the weather in Rome?"
    whole = answer(demo, asked, strict_tools=True)
    exact = answer(demo, asked, strict_tools=True, max_tokens=len(whole.tokens) - 1)
    assert exact.tool_calls == whole.tool_calls and exact.finish_reason == "tool_calls"
    said = answer(
        demo, "What is the capital of France?", strict_tools=True, max_tokens=3
    )
    assert said.finish_reason == "length" and len(said.tokens) == 3
    free = answer(demo, asked, parallel_calls=False, max_tokens=7)
    assert free.finish_reason == "length" and len(free.tokens) == 7
    assert not free.tool_calls and free.malformed_calls


@pytest.mark.parametrize(("choice", "several"), [(None, False), ("get_weather", True)])
def test_one_call_only(demo: Loaded, choice: str | None, several: bool) -> None:
    model, processor = demo
    marks = processor.tokenizer.special_tokens
    calls = calls_of(TOOLS, marks, choice=choice, several=several)
    rows = model.config.text_config.token_rows
    guide = Guide(None, processor, rows, calls=calls and replace(calls, form=None))
    for mark in ("<|tool_call>", "<tool_call|>"):
        guide.advance(marks[mark])
    allowed = guide.allowed()
    assert allowed is not None and allowed.sum().item() == len(guide.ends)


def test_words_that_look_like_a_call_are_words(demo: Loaded) -> None:
    """Elsewhere they are one, behind a thought."""
    tokens = demo[1].tokenizer.encode("<channel|>call:get_weather{}<turn|>")
    for only_marks, calls in ((True, 0), (False, 1)):
        writer = Writer(demo[1], True, (), only_marks)
        found = Response.of(writer.take(token, last=False) for token in tokens)
        assert len(found.tool_calls) == calls
        assert found.text == "call:get_weather{}" * only_marks


@pytest.mark.slow
def test_it_goes_on_within_a_call(demo: Loaded) -> None:
    asked = "What is the weather in Rome?"
    whole = answer(demo, asked, strict_tools=True)
    rest = answer(demo, asked, strict_tools=True, begun=whole.tokens[:8])
    assert rest.tokens == whole.tokens and rest.tool_calls == whole.tool_calls


@pytest.mark.parametrize(
    ("tools", "choice", "said"),
    [
        (TOOLS, "get_time", "tool_choice is 'get_time', but the tools are get_weather"),
        ([], "required", "but no tool is declared"),
        (None, "get_time", "but no tool is declared"),
        ([{"name": "a b"}], "required", "No call can name the tool 'a b'"),
    ],
)
def test_choices_that_are_refused(tools: Any, choice: str, said: str) -> None:
    marks = {"<|tool_call>": 7, "<tool_call|>": 8, Q: 11}
    with pytest.raises(ChatError, match=re.escape(said)):
        calls_of(tools, marks, choice=choice)


def test_what_is_held_to_nothing_needs_no_llguidance(
    demo: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    marks = demo[1].tokenizer.special_tokens
    assert calls_of(TOOLS, marks) == Calls() and Calls().is_free
    assert calls_of(TOOLS, marks, strict=True, choice="none") is None
    assert calls_of(None, marks, strict=True) is None
    single = answer(demo, "What is the weather in Rome?", parallel_calls=False)
    assert len(single.tool_calls) == 1
    with pytest.raises(ChatError, match=re.escape(install_command("json"))):
        calls_of(TOOLS, marks, strict=True)


class Declarations:
    """Random ones, of what calls can be held to."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def tools(self) -> list[dict[str, Any]]:
        names = self._random.sample(["get", "get_x", "ns.do-it", "größe"], 2)
        return [{"name": name, "parameters": self.mapping(0)} for name in names]

    def schema(self, depth: int) -> dict[str, Any]:
        plain = ["string", "integer", "number", "boolean", "null"]
        made = [self.choices, self.text, self.bounds, self.either]
        made += [self.mapping, self.array] * 2 if depth < 3 else []
        pick = self._random.choice([*plain, *made])
        return {"type": pick} if isinstance(pick, str) else pick(depth)

    def choices(self, depth: int) -> dict[str, Any]:
        values = ["red", 'a "b" \\ é', "<eos>", "", 1, 2.5, None, True, {"x": []}]
        return {"enum": self._random.sample(values, 3)}

    def text(self, depth: int) -> dict[str, Any]:
        limits = [{"minLength": 2}, {"maxLength": 3}, {"minLength": 1, "maxLength": 4}]
        limits += [{"pattern": "^[A-Z]{2}[0-9]+$"}, {"pattern": "^a/b"}]
        return {"type": "string", **self._random.choice(limits)}

    def bounds(self, depth: int) -> dict[str, Any]:
        limits = [{"minimum": -5, "maximum": 99}, {"exclusiveMinimum": 3}]
        limits += [{"maximum": 7}, {"multipleOf": 3}]
        kind = self._random.choice(["integer", "number"])
        return {"type": kind, **self._random.choice(limits)}

    def either(self, depth: int) -> dict[str, Any]:
        return {"anyOf": [self.schema(depth + 1), {"type": "null"}]}

    def mapping(self, depth: int) -> dict[str, Any]:
        keys = ["a", "B", "c d", "e-f", "{g", "ü"]
        keys = self._random.sample(keys, self._random.randint(1, 4))
        return {
            "type": "object",
            "properties": {key: self.schema(depth + 1) for key in keys},
            "required": self._random.sample(keys, self._random.randint(0, len(keys))),
            "additionalProperties": False,
        }

    def array(self, depth: int) -> dict[str, Any]:
        least, most = self._random.randint(0, 2), self._random.randint(2, 4)
        items = self.schema(depth + 1)
        return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def invalid(loaded: Loaded, count: int, seed: int) -> Iterator[str]:
    """What calls of random weights do not satisfy the declarations of their tools."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is missing")
    model, processor = loaded
    declarations = Declarations(seed)
    for number in range(count):
        tools = declarations.tools()
        found = drawn(loaded, tools=tools, tool_choice="required", seed=number)
        try:
            assert found.tool_calls, found
            for call in found.tool_calls:
                (schema,) = (t["parameters"] for t in tools if t["name"] == call.name)
                jsonschema.validate(call.arguments, schema)
        except (AssertionError, jsonschema.ValidationError) as error:
            yield f"{tools}: {found.tool_calls} ({error})"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::mlx_gemma4.chat.tools.ToolWarning")
def test_two_hundred_random_declarations(wild: Loaded) -> None:
    assert list(invalid(wild, 200, seed=3)) == []
