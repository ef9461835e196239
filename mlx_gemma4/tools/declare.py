"""Python functions as tools: declared by their types and docstrings."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, overload

from ..errors import ChatError
from .hints import Field, docstring_of, hints_of, object_schema, texts_of, values_of
from .tool import Tool

Function = Callable[..., Any]


@overload
def tool(
    function: Function, /, *, name: str | None = None, read_only: bool | None = None
) -> Tool: ...
@overload
def tool(
    *, name: str | None = None, read_only: bool | None = None
) -> Callable[[Function], Tool]: ...
def tool(
    function: Function | None = None,
    /,
    *,
    name: str | None = None,
    read_only: bool | None = None,
) -> Tool | Callable[[Function], Tool]:
    """A function as a tool, which can still be called as the function.

        @tool
        def get_weather(city: str, days: int = 1) -> str:
            \"\"\"The weather in a city.

            Args:
                city: Its name.
            \"\"\"

    name: instead of the function's own.
    read_only: whether it changes nothing, which is shown to who is asked for leave.

    Raises ChatError for what cannot be declared.
    """
    if function is None:
        return lambda function: tool_of(function, name, read_only)
    return tool_of(function, name, read_only)


def tool_of(
    function: Function, name: str | None = None, read_only: bool | None = None
) -> Tool:
    """`tool` as a plain function: a function or a method of an object, async or not."""
    if not inspect.isroutine(function) or inspect.isasyncgenfunction(function):
        raise ChatError(
            f"{function!r} is no function that returns something, so no tool can be "
            "made of it."
        )
    name = name or function.__name__
    taken = _taken(function, name)
    described = docstring_of(function)
    returned = described.returns and described.returns.description
    texts = (
        described.short_description,
        described.long_description,
        f"Returns: {returned}" if returned else None,
    )
    declared = {
        "name": name,
        "description": "\n".join(text for text in texts if text),
        "parameters": object_schema(taken, texts_of(described), name),
    }

    def run(arguments: Mapping[str, Any]) -> Any:
        values = values_of(arguments, taken, "")
        # Names that can only be given by place come first in a signature.
        placed = [values.pop(each.name, each.default) for each in by_place]
        result = function(*placed, **values)
        return _waited_for(result) if inspect.isawaitable(result) else result

    parameters = inspect.signature(function).parameters.values()
    by_place = [each for each in parameters if each.kind is each.POSITIONAL_ONLY]
    code = getattr(inspect.unwrap(function), "__code__", None)
    source = Path(code.co_filename).name if code else str(function.__module__)
    declaration = {"type": "function", "function": declared}
    return Tool(name, declaration, run, source, read_only, function=function)


def _taken(function: Function, name: str) -> dict[str, Field]:
    """What a function takes, by name."""
    taken: dict[str, Field] = {}
    hints = hints_of(function, name)
    for each in inspect.signature(function).parameters.values():
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            raise ChatError(
                f"{name} takes any number of arguments (`{each}`): name each that a "
                "model may give."
            )
        if each.name not in hints:
            hint = f"write its type, as in `{each.name}: str`"
            if each.name in ("self", "cls"):
                hint = "make a tool of an object's method, as in `tool(home.light)`"
            raise ChatError(f"{name} takes `{each.name}` of no known type: {hint}.")
        required = each.default is each.empty
        default = None if required else each.default
        taken[each.name] = Field(hints[each.name], required, default)
    return taken


def _waited_for(result: Awaitable[Any]) -> Any:
    """What an async function comes to, also where a loop is running, as in Jupyter."""

    async def outcome() -> Any:
        return await result

    def run() -> Any:
        try:
            return asyncio.run(outcome())
        except asyncio.CancelledError:  # which is no Exception
            raise RuntimeError("it was cancelled") from None

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()
