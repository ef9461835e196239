"""Tool calls in Gemma 4's own notation.

A call reads `call:name{city:<|"|>Rome<|"|>,days:3}`: bare keys, strings between `<|"|>`
marks without any escape, numbers, true, false, null, nested `{}` and `[]`.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Never

from ..errors import ChatError

QUOTE = '<|"|>'
MAX_DEPTH = 100
NAME = re.compile(r"[^\s{}<>]+")  # what a call can be written with
# The marks around a call may have lost "call" or a space in front of it; what
# follows is a call all the same.
HEAD = re.compile(rf"\s*(?:call)?:\s*({NAME.pattern})\s*(?=\{{)")
KEY = re.compile(r"\s*(?!')([^:=,{}\[\]<\"]+?)\s*:")
WORD = re.compile(r"[^\s,{}\[\]]+")
NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
CONSTANTS = {"true": True, "false": False, "null": None}
# In quotes, with single backslashes: they are no escapes, whatever follows them.
WINDOWS_PATH = re.compile(r'[C-Zc-z]:(?:\\[^\\/:*?"<>|\n]+)+')
# Of these the ones that cannot be JSON's two lines, as `"Q:\nWhat"`, in all likelihood.
IS_PATH = re.compile(r"^[C-Fc-f]:|\.\w{1,5}$")


@dataclass(frozen=True)
class ToolCall:
    """A call the model asks for: the tool's name and JSON-like arguments."""

    name: str
    arguments: dict[str, Any]


def openai_call(call: ToolCall, call_id: str) -> dict[str, Any]:
    """A call as an entry of a message's `tool_calls`; arguments stay a mapping."""
    function = {"name": call.name, "arguments": call.arguments}
    return {"type": "function", "id": call_id, "function": function}


def parse_strictly(text: str) -> list[ToolCall]:
    """Calls written exactly as the notation has them, one behind the other.

    Raises ChatError that says where the text stops being a call.
    """
    calls, at = [], 0
    while not calls or text[at:].strip():
        if not (head := HEAD.match(text, at)):
            expected = "the end, or the next call:name{…}" if calls else "call:name{…}"
            raise ChatError(
                f"Malformed tool call, expected {expected}: {text[at : at + 80]!r}"
            )
        parser = _Parser(text, head.end())
        calls.append(ToolCall(head[1], parser.object(depth=0)))
        at = parser.at
    return calls


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
        start = self.at + 1
        try:
            value, self.at = json.JSONDecoder().raw_decode(self.text, self.at)
        except ValueError:
            self.fail("a closed string")
        path = WINDOWS_PATH.fullmatch(self.text, start, self.at - 1)
        return path[0] if path and IS_PATH.search(path[0]) else value

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
