"""Calls that are run: near misses of a model, and all that can go wrong."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypedDict

import numpy as np
import pytest
from PIL import Image

from mlx_gemma4 import Tool, ToolCall
from mlx_gemma4.errors import ChatError
from mlx_gemma4.tools.arguments import ArgumentError, fitted
from mlx_gemma4.tools.result import Result
from mlx_gemma4.tools.toolbox import Toolbox


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Place:
    name: str
    at: list[float] = field(default_factory=list)
    level: Level = Level.LOW


class Options(TypedDict, total=False):
    level: Level


def run(function: Any, **arguments: Any) -> Result:
    return Toolbox([function]).run(ToolCall(function.__name__, arguments))


@pytest.mark.parametrize(
    ("hint", "given", "taken"),
    [
        (str, 5, "5"),
        (str, True, "true"),
        (int, "3", 3),
        (int, 3.0, 3),
        (float, "3", 3.0),
        (float, 3, 3.0),
        (bool, "True", True),
        (Path, "a/b", Path("a/b")),
        (list[int], '["1", 2]', [1, 2]),
        (dict[str, int], {"a": "1"}, {"a": 1}),
        (dict[str, Level], '{"a": "high"}', {"a": Level.HIGH}),
        (Literal["C", "F"], "c", "C"),
        (Literal[1, 2], "2", 2),
        (Level, "low", Level.LOW),
        (int | None, None, None),
        (int | str, "3", "3"),
        (int | str, 3, 3),
        (int | bool, True, True),
        (int | Place, {"name": "x"}, Place("x")),
        (dict[str, int] | Place, {"name": "x"}, Place("x")),
        (dict[str, int] | dict[str, Level], {"a": "LOW"}, {"a": Level.LOW}),
        (list[Place], [{"name": 1, "at": ["2"]}], [Place("1", [2.0])]),
        (Place, {"name": "x", "level": "HIGH"}, Place("x", [], Level.HIGH)),
        (Options, {"level": "HIGH"}, {"level": Level.HIGH}),
        (Sequence[Any], [1, None], [1, None]),
        (Any, {"a": None}, {"a": None}),
    ],
)
def test_arguments_become_what_the_function_takes(
    hint: Any, given: Any, taken: Any
) -> None:
    found: list[Any] = []

    def f(x: Any) -> None:
        found.append(x)

    f.__annotations__["x"] = hint
    result = run(f, x=given)
    assert not result.is_error, result.text
    assert found == [taken] and type(found[0]) is type(taken)


@pytest.mark.parametrize(
    ("hint", "given", "said"),
    [
        (int, "three", 'x must be of type integer, not "three".'),
        (int, 2.5, "x must be of type integer, not 2.5."),
        (int, True, "x must be of type integer, not true."),
        (int, None, "x must be of type integer, not null."),
        (float, "nan", 'x must be of type number, not "nan".'),
        (str, [], "x must be of type string, not []."),
        (list[int], [1, "a"], 'x[1] must be of type integer, not "a".'),
        (list[int], "1", 'x must be of type array, not "1".'),
        (list[int], "[" * 100_000, f'x must be of type array, not "{"[" * 79}…'),
        (dict[str, int], {"a": "b"}, 'x.a must be of type integer, not "b".'),
        (Literal["C", "F"], "K", 'x must be one of "C", "F", not "K".'),
        (Place, {"at": []}, "x.name is missing."),
        (Place, {"name": "", "to": 1}, "There is no x.to: it takes name, at, level."),
        (
            int | bool,
            "a",
            'x must be of type integer, not "a". Or: x must be of typ',
        ),
    ],
)
def test_what_does_not_fit_is_told(hint: Any, given: Any, said: str) -> None:
    def f(x: Any) -> None:
        raise AssertionError("it is not called")

    f.__annotations__["x"] = hint
    result = run(f, x=given)
    assert result.is_error
    assert result.text.startswith(f"Error: the arguments do not fit. {said}")


def test_null_stands_for_what_is_left_out() -> None:
    def f(a: int = 1, b: int | None = 2, c: Any = 3) -> list[Any]:
        return [a, b, c]

    assert run(f, a=None, b=None, c=None).text == "[1, null, null]"
    assert run(f).text == "[1, 2, 3]"


def test_what_is_missing_and_what_is_too_much() -> None:
    def f(a: int) -> None: ...
    def g() -> None: ...

    assert run(f).text == "Error: the arguments do not fit. a is missing."
    assert run(f, a=1, b=2).text.endswith("There is no b: it takes a.")
    assert run(g, b=2).text.endswith("There is no b: it takes nothing.")


def test_arguments_that_come_by_place() -> None:
    def f(a: int, b: int = 2, c: int = 3, /, *, d: int = 4) -> list[int]:
        return [a, b, c, d]

    assert run(f, c=7, a=1).text == "[1, 2, 7, 4]"


def test_schemas_that_others_wrote() -> None:
    """Of a server: unions with null, several types, and what nobody checks here."""
    schema = {
        "type": "object",
        "properties": {
            "n": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "m": {"type": ["integer", "null"]},
            "ref": {"$ref": "#/$defs/X"},
            "odd": {"type": "strange"},
        },
        "required": ["n"],
    }
    given = {"n": "3", "m": None, "ref": [1], "odd": 2, "more": 1}
    assert fitted(given, schema, "") == {**given, "n": 3}
    assert fitted({"n": None}, schema, "") == {"n": None}
    with pytest.raises(ArgumentError, match=r"^n must be of type integer, not \"x\"\."):
        fitted({"n": "x"}, schema, "")


def numbers() -> Iterator[int]:
    yield from (1, 2)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (None, "null"),
        ({"ä": [1, 2.5, True]}, '{"ä": [1, 2.5, true]}'),
        (Place("x"), '{"name": "x", "at": [], "level": 1}'),
        (MappingProxyType({"a": 1}), '{"a": 1}'),
        ({Path("a")}, '["a"]'),
        (numbers(), "[1, 2]"),
        (np.arange(2), "[0, 1]"),
        (np.int64(3), "3"),
    ],
)
def test_results_are_text_or_json(value: Any, text: str) -> None:
    def f() -> Any:
        return value

    assert run(f) == Result(text)


def test_a_picture_and_a_result_of_its_own() -> None:
    picture = Image.new("RGB", (4, 4))

    def look() -> Image.Image:
        return picture

    def fail() -> Result:
        return Result("no", is_error=True)

    seen = run(look)
    assert seen.message("c")["content"] == [
        {"type": "text", "text": "This picture:"},
        {"type": "image", "image": picture},
    ]
    assert run(fail) == Result("no", is_error=True)
    assert run(fail).message("c") == {
        "role": "tool",
        "tool_call_id": "c",
        "content": "no",
    }


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such city"), "Error: ValueError: no such city"),
        (TimeoutError(), "Error: TimeoutError"),
        (SystemExit(2), "Error: SystemExit: 2"),
        (ArgumentError("a is odd."), "Error: the arguments do not fit. a is odd."),
    ],
)
def test_errors_are_told(error: BaseException, text: str) -> None:
    def f() -> None:
        raise error

    assert run(f) == Result(text, is_error=True)


def test_ctrl_c_goes_through() -> None:
    def f() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(f)


def test_what_json_does_not_hold_is_an_error() -> None:
    def f() -> bytes:
        return b"x"

    assert run(f) == Result("Error: TypeError: bytes are no text", is_error=True)


def test_an_unknown_tool() -> None:
    box = Toolbox([numbers])
    text = "Error: there is no tool other. There are: numbers."
    assert box.run(ToolCall("other", {})) == Result(text, is_error=True)


def test_a_cut_is_told() -> None:
    def f(n: int) -> str:
        return "x" * n

    box = Toolbox([f], longest=1000)
    assert box.run(ToolCall("f", {"n": 1000})).text == "x" * 1000
    cut = box.run(ToolCall("f", {"n": 1234}))
    assert cut.text == "x" * 1000 + "\n[Cut: these are 1,000 of 1,234 characters.]"


def test_names_are_told_apart() -> None:
    declaration = Toolbox([numbers]).declarations[0]
    other = Tool("numbers", declaration, dict, "a server")
    with pytest.raises(ChatError, match="called numbers, of a server and of test_tool"):
        Toolbox([other, numbers])
    with pytest.raises(ChatError, match="must be a list of functions"):
        Toolbox(numbers)  # type: ignore[arg-type]
    with pytest.raises(ChatError, match="cannot be called 'a b'"):
        Tool("a b", {}, dict, "a server")
    with pytest.raises(TypeError, match="numbers of a server is no function"):
        other()


def test_a_server_gets_what_fits_its_schema() -> None:
    given: list[Mapping[str, Any]] = []
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    declared = {"name": "count", "parameters": schema}
    declaration = {"type": "function", "function": declared}
    box = Toolbox([Tool("count", declaration, given.append, "a server")])
    assert box.run(ToolCall("count", {"n": "3", "m": 1})).text == "null"
    assert json.dumps(given) == '[{"n": 3, "m": 1}]'
