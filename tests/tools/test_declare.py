"""Functions as tools: what of their types and docstrings a model is told."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import Enum, IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NotRequired, Optional, TypedDict, Union

import pytest
from google_templates import google_template

from mlx_gemma4 import tool
from mlx_gemma4.chat.template import ChatTemplate
from mlx_gemma4.errors import ChatError


class Unit(Enum):
    C = "Celsius"
    F = "Fahrenheit"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Place:
    """A place.

    Attributes:
        name: Its name.
    """

    name: str
    at: list[float] = field(default_factory=list)


class Options(TypedDict):
    size: int
    colour: NotRequired[Annotated[str, "In words."]]


@dataclass
class Endless:
    inner: "list[Endless]"


GOOGLE = """The weather in a city.

Also tomorrow's.

Args:
    city (str): Name of the
        city.
    days: How many days

Returns:
    A sentence.
"""
NUMPY = """The weather in a city.

Also tomorrow's.

Parameters
----------
city : str
    Name of the
    city.
days : int
    How many days

Returns
-------
str
    A sentence.
"""
SPHINX = """The weather in a city.

Also tomorrow's.

:param city: Name of the
    city.
:param days: How many days
:returns: A sentence.
"""


WHERE = {"description": "Where to."}


def declared(function: Any) -> dict[str, Any]:
    made = tool(function).declaration
    assert made["type"] == "function"
    return made["function"]


def schema(hint: Any) -> dict[str, Any]:
    """Of an argument with this type."""

    def f(x: Any) -> None: ...

    f.__annotations__["x"] = hint
    return declared(f)["parameters"]["properties"]["x"]


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, SPHINX])
def test_docstrings_of_any_style(docstring: str) -> None:
    def get_weather(city: str, days: int = 1) -> str:
        return city

    get_weather.__doc__ = docstring
    assert declared(get_weather) == {
        "name": "get_weather",
        "description": "The weather in a city.\nAlso tomorrow's.\nReturns: A sentence.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name of the city."},
                "days": {
                    "type": "integer",
                    "description": "How many days. Default: 1.",
                },
            },
            "required": ["city"],
        },
    }


def test_two_parameters_at_once() -> None:
    def move(x: float, y: float) -> None:
        """Move it.

        Parameters
        ----------
        x, y : float
            Where to.
        """

    properties = declared(move)["parameters"]["properties"]
    assert properties["x"] == properties["y"] == {**schema(float), **WHERE}


def test_a_plain_docstring_and_none() -> None:
    def plain(x: int) -> None:
        """Do it: now."""

    assert declared(plain)["description"] == "Do it: now."
    assert declared(lambda_like)["description"] == ""


def lambda_like() -> None: ...


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (Path, {"type": "string"}),
        (Any, {}),
        (list, {"type": "array"}),
        (list[str], {"type": "array", "items": {"type": "string"}}),
        (Sequence[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, Any], {"type": "object"}),
        (
            dict[str, int],
            {"type": "object", "description": "Its values are of type integer."},
        ),
        (Literal["on", "off"], {"type": "string", "enum": ["on", "off"]}),
        (Literal[1, 2], {"type": "integer", "enum": [1, 2]}),
        (Literal[1, "a", None], {"enum": [1, "a"], "nullable": True}),
        (Unit, {"type": "string", "enum": ["Celsius", "Fahrenheit"]}),
        (Level, {"type": "string", "enum": ["LOW", "HIGH"]}),
        (int | None, {"type": "integer", "nullable": True}),
        (Optional[Unit], {**schema(Unit), "nullable": True}),  # noqa: UP045
        (Union[int, str], {"anyOf": [{"type": "integer"}, {"type": "string"}]}),  # noqa: UP007
        (Annotated[int, "How many."], {"type": "integer", "description": "How many."}),
        (
            Annotated[int, SimpleNamespace(description="How many.")],
            {"type": "integer", "description": "How many."},
        ),
        (
            Place,
            {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "description": "Its name."},
                    "at": {
                        "type": "array",
                        "items": {"type": "number"},
                        "description": "Default: [].",
                    },
                },
                "required": ["name"],
            },
        ),
        (
            Options,
            {
                "type": "object",
                "properties": {
                    "size": {"type": "integer"},
                    "colour": {"type": "string", "description": "In words."},
                },
                "required": ["size"],
            },
        ),
    ],
)
def test_types(hint: Any, expected: dict[str, Any]) -> None:
    assert schema(hint) == expected


def test_defaults_are_told_and_nothing_else_is_required() -> None:
    def f(
        a: int | None = None, b: Unit = Unit.F, c: Level = Level.LOW, d: bool = False
    ) -> None:
        """F.

        :param b: The unit
        :param d: Whether. The default is not.
        """

    parameters = declared(f)["parameters"]
    told = [each.get("description") for each in parameters["properties"].values()]
    assert parameters["required"] == []
    assert told == [
        None,
        'The unit. Default: "Fahrenheit".',
        'Default: "LOW".',
        "Whether. The default is not.",
    ]


class Home:
    def light(self, state: Literal["on", "off"]) -> str:
        """Switch it."""
        return f"it is {state}"

    async def wait(self, seconds: float, /, *, then: str = "done") -> str:
        await asyncio.sleep(0)
        return f"{seconds} {then}"


def test_a_method_and_what_is_waited_for() -> None:
    light, wait = tool(Home().light), tool(Home().wait, name="sleep", read_only=True)
    assert light.run({"state": "on"}) == "it is on" == light("on")
    assert (light.source, light.read_only, light.trusted) == (
        Path(__file__).name,
        None,
        False,
    )
    assert (wait.name, wait.read_only) == ("sleep", True)
    assert wait.run({"seconds": 2, "then": "ok"}) == "2.0 ok"

    async def within_a_loop() -> str:
        return wait.run({"seconds": 1})

    assert asyncio.run(within_a_loop()) == "1.0 done"


def test_what_is_cancelled_fails() -> None:
    async def f() -> None:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="it was cancelled"):
        tool(f).run({})


async def stream() -> AsyncIterator[int]:
    yield 1


def untyped(x) -> None: ...


def many(*x: int) -> None: ...


def named(**x: int) -> None: ...


def dated(x: date) -> None: ...


def keyed(x: dict[int, str]) -> None: ...


def bytewise(x: Literal[b"a"]) -> None: ...


def endless(x: Endless) -> None: ...


def unknown(x: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821


def odd(x: [int]) -> None: ...  # type: ignore[valid-type]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (untyped, "untyped takes `x` of no known type: write its type, as in `x: str`"),
        (many, r"many takes any number of arguments \(`\*x: int`\)"),
        (named, r"`\*\*x: int`"),
        (dated, "dated.x is of type date, which cannot be declared. Use str, int"),
        (keyed, "The keys of keyed.x must be str"),
        (bytewise, r"bytewise.x is of type typing.Literal\[b'a'\]"),
        (endless, r"endless.x.inner\[\] is a Endless within a Endless"),
        (unknown, "A type of unknown cannot be understood: name 'Nowhere' is not"),
        (odd, "odd.x is of type"),
        (stream, "is no function that returns something"),
        (Home, "is no function that returns something"),
        (Home.light, "make a tool of an object's method, as in `tool"),
        (lambda: 1, "A tool cannot be called '<lambda>'"),
    ],
)
def test_what_cannot_be_declared(function: Any, said: str) -> None:
    with pytest.raises(ChatError, match=said):
        tool(function)


@pytest.mark.parametrize("name", ["small", "large"])
def test_templates_have_words_for_it(name: str) -> None:
    """Warnings are errors here."""

    def f(a: Place, b: list[Place], c: dict[str, Unit], d: int | str) -> None:
        """F."""

    template = ChatTemplate(google_template(name), "<bos>")
    asked = [{"role": "user", "content": "hi"}]
    text = template.render(asked, [tool(f).declaration]).text
    assert text.count('name:{description:<|"|>Its name.<|"|>') == 2
    assert 'of the schema {"type": "string", "enum": ["Celsius", "Fah' in text
    assert "additionalProperties" not in text
