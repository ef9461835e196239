"""Tool declarations and calls: Gemma 4's own notation, and OpenAI's messages.

A call reads `call:name{city:<|"|>Rome<|"|>,days:3}`: bare keys, strings between `<|"|>`
marks without any escape, numbers, true, false, null, nested `{}` and `[]`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Never

from ..errors import ChatError

QUOTE = '<|"|>'
MAX_DEPTH = 100
# The marks around a call may have lost "call" or a space in front of it; what
# follows is a call all the same.
HEAD = re.compile(r"\s*(?:call)?:\s*([^\s{}<>]+)\s*(?=\{)")
KEY = re.compile(r"\s*([^:,{}\[\]<\"]+?)\s*:")
WORD = re.compile(r"[^\s,{}\[\]]+")
NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
CONSTANTS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class ToolCall:
    """A call the model asks for: the tool's name and JSON-like arguments."""

    name: str
    arguments: dict[str, Any]


def parse_call(text: str) -> ToolCall:
    """Read `call:name{…}`, with or without the marks around it.

    Raises ChatError that says where the text stops being a call.
    """
    text = text.strip().removeprefix("<|tool_call>").removesuffix("<tool_call|>")
    if not (head := HEAD.match(text)):
        raise ChatError(f"Malformed tool call, expected call:name{{…}}: {text[:80]!r}")
    parser = _Parser(text, head.end())
    arguments = parser.object(depth=0)
    parser.skip_spaces()
    if parser.at < len(text):
        parser.fail("the end of the call")
    return ToolCall(head[1], arguments)


def openai_call(call: ToolCall, call_id: str) -> dict[str, Any]:
    """A call as an entry of a message's `tool_calls`; arguments stay a mapping."""
    function = {"name": call.name, "arguments": call.arguments}
    return {"type": "function", "id": call_id, "function": function}


def plain_tools(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Declarations in OpenAI's shape, as plain JSON for the template.

    Takes `{"type": "function", "function": {…}}` or the inner object alone. Raises
    ChatError that names the declaration.
    """
    if isinstance(tools, str | Mapping) or not isinstance(tools, Sequence):
        raise ChatError("tools must be a list of declarations.")
    return [_plain_tool(tool, f"tools[{i}]") for i, tool in enumerate(tools)]


def plain_json(value: Any, where: str) -> Any:
    """A copy of `value` made of JSON types only; ChatError naming `where` if not."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ChatError(f"{where} cannot be written as JSON: {error}.") from None


def _plain_tool(tool: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(tool, Mapping):
        kind = type(tool).__name__
        raise ChatError(f"{where} is a {kind}; declare the tool as a JSON object.")
    declared = plain_json(tool, where)
    function = declared.get("function", declared)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ChatError(f"{where} names no function: give it a 'name'.")
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise ChatError(f"{where}: 'parameters' must be a JSON schema object.")
    if parameters:
        # The templates leave the declaration open where the type is not stated.
        parameters.setdefault("type", "object")
    extra = {} if function is declared else declared
    return {**extra, "type": "function", "function": function}


class _Parser:
    """Recursive descent over one call; `at` is the next unread character."""

    def __init__(self, text: str, at: int):
        self.text = text
        self.at = at

    def fail(self, expected: str) -> Never:
        found = self.text[self.at : self.at + 20] or "nothing"
        raise ChatError(
            f"Malformed tool call: expected {expected} at character {self.at}, "
            f"found {found!r}."
        )

    def skip_spaces(self) -> None:
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1

    def take(self, token: str) -> bool:
        self.skip_spaces()
        if not self.text.startswith(token, self.at):
            return False
        self.at += len(token)
        return True

    def value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            self.fail(f"at most {MAX_DEPTH} levels of nesting")
        self.skip_spaces()
        if self.text.startswith((QUOTE, '"'), self.at):
            return self.string()
        if self.text.startswith("{", self.at):
            return self.object(depth)
        if self.take("["):
            return self.array(depth)
        return self.word()

    def object(self, depth: int) -> dict[str, Any]:
        if not self.take("{"):
            self.fail("'{'")
        items: dict[str, Any] = {}
        if self.take("}"):
            return items
        while True:
            key = self.key()
            if key in items:
                self.fail(f"{key!r} once only")
            items[key] = self.value(depth + 1)
            if self.take("}"):
                return items
            if not self.take(","):
                self.fail("',' or '}'")

    def array(self, depth: int) -> list[Any]:
        items: list[Any] = []
        if self.take("]"):
            return items
        while True:
            items.append(self.value(depth + 1))
            if self.take("]"):
                return items
            if not self.take(","):
                self.fail("',' or ']'")

    def key(self) -> str:
        self.skip_spaces()
        if self.text.startswith((QUOTE, '"'), self.at):
            key = self.string()
            if not self.take(":"):
                self.fail("':'")
            return key
        if not (match := KEY.match(self.text, self.at)):
            self.fail("a key and ':'")
        self.at = match.end()
        return match[1]

    def string(self) -> str:
        """A string between Gemma's marks, or in JSON's quotes where a model slips."""
        if self.take(QUOTE):
            end = self.text.find(QUOTE, self.at)
            if end < 0:
                self.fail(f"a closing {QUOTE}")
            start, self.at = self.at, end + len(QUOTE)
            return self.text[start:end]
        try:
            value, self.at = json.JSONDecoder().raw_decode(self.text, self.at)
        except ValueError:
            self.fail("a closed string")
        return value

    def word(self) -> Any:
        match = WORD.match(self.text, self.at)
        if not match or not (match[0] in CONSTANTS or NUMBER.fullmatch(match[0])):
            self.fail(f"a value (strings stand between {QUOTE})")
        if match[0] in CONSTANTS:
            value = CONSTANTS[match[0]]
        else:
            value = self.number(match[0])
        self.at = match.end()
        return value

    def number(self, word: str) -> int | float:
        if not re.search(r"[.eE]", word):
            # Python refuses to read integers of thousands of digits.
            return int(word) if len(word) < 4000 else self.fail("a shorter number")
        value = float(word)
        return value if abs(value) != float("inf") else self.fail("a finite number")
