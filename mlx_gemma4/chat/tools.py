"""Tools: their declarations for the template, and the calls that a model writes."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ChatError
from .calls import ToolCall, parse_strictly
from .loose import parse_loosely
from .schemas import Sayable

PARAMETERS = ("parameters", "inputSchema", "input_schema")
ORIGINAL = "x-parameters"  # beside a plain function: what it had for parameters
CALL_MARKS = "<|tool_call>", "<tool_call|>"


class ToolWarning(UserWarning):
    """A tool's schema says what the chat template cannot."""


def parse_call(text: str) -> list[ToolCall]:
    """Read `call:name{…}`, with or without the marks around it: one call, or several.

    Read as written where it is written as it should be; else as it can only be meant:
    strings in other quotes or none, Python's constants, `=` for `:`, parentheses,
    commas that are missing or too many, JSON.

    Raises ChatError where there is no one reading, and says where the notation ends.
    """
    text = text.strip().removeprefix(CALL_MARKS[0]).removesuffix(CALL_MARKS[1])
    try:
        return parse_strictly(text)
    except ChatError:
        if found := parse_loosely(text):
            return found
        raise


def plain_tools(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Declarations in OpenAI's shape, as plain JSON for the template.

    Takes `{"type": "function", "function": {…}}` or the inner object alone, whose
    `parameters` may be called `inputSchema` (MCP) or `input_schema` (Anthropic). What
    they were is kept beside the function, where templates do not look.

    Warns with ToolWarning of what templates have no words for. Raises ChatError that
    names the declaration.
    """
    if isinstance(tools, str | Mapping) or not isinstance(tools, Sequence):
        raise ChatError("tools must be a list of declarations.")
    unsaid: dict[str, list[str]] = {}
    plain = [_plain_tool(tool, f"tools[{i}]", unsaid) for i, tool in enumerate(tools)]
    if unsaid:
        places = (f"{key} (of {', '.join(names)})" for key, names in unsaid.items())
        warnings.warn(
            f"The chat template has no words for {', '.join(places)} in the schemas of "
            "the tools: say it in their descriptions.",
            ToolWarning,
            stacklevel=2,
        )
    return plain


def plain_json(value: Any, where: str) -> Any:
    """A copy of `value` made of JSON types only; ChatError naming `where` if not."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ChatError(f"{where} cannot be written as JSON: {error}.") from None


@dataclass(frozen=True)
class Declared:
    """A tool as it was declared: its function without the parameters, these, which may
    be missing, and what stood beside the function."""

    function: dict[str, Any]
    parameters: dict[str, Any] | None
    beside: dict[str, Any]

    @property
    def name(self) -> str:
        return self.function["name"]


def declared_tool(tool: Mapping[str, Any], where: str) -> Declared:
    """Reads one declaration, which its errors call `where`. Raises ChatError."""
    if not isinstance(tool, Mapping):
        kind = type(tool).__name__
        raise ChatError(
            f"{where} is a {kind}; declare it as a JSON object, or call run_tools."
        )
    declared = plain_json(tool, where)
    function = declared.get("function", declared)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ChatError(f"{where} names no function: give it a 'name'.")
    stated = [key for key in PARAMETERS if function.get(key) is not None]
    if len(stated) > 1:
        raise ChatError(f"{where} has both {stated[0]!r} and {stated[1]!r}.")
    parameters = function.pop(stated[0]) if stated else None
    if parameters is not None and not isinstance(parameters, dict):
        raise ChatError(f"{where}: {stated[0]!r} must be a JSON schema object.")
    return Declared(function, parameters, {} if function is declared else declared)


def _plain_tool(
    tool: Mapping[str, Any], where: str, unsaid: dict[str, list[str]]
) -> dict[str, Any]:
    declared = declared_tool(tool, where)
    function, parameters = declared.function, declared.parameters
    beside = dict(declared.beside)
    if function.get("description", "") is None:
        del function["description"]
    if parameters:
        # The templates leave the declaration open where the type is not stated.
        parameters.setdefault("type", "object")
        sayable = Sayable(parameters, where)
        parameters, stated = sayable.whole(), parameters
        if parameters != stated or sayable.unsaid:
            beside.setdefault(ORIGINAL, stated)
        for key, places in sayable.unsaid.items():
            named = (f"{declared.name}.{place}".strip(".") for place in places)
            unsaid.setdefault(key, []).extend(named)
    if parameters is not None:
        function["parameters"] = parameters
    return {**beside, "type": "function", "function": function}
