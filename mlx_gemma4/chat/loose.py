"""Tool calls as models write them where they miss the notation.

Only what can be read in one way is read. A string ends at the first quote behind which
the call can go on; a bare word ends at the next delimiter, and is none where something
like another key stands in it.
"""

import ast
import json
import math
import re
import warnings
from collections.abc import Iterator
from typing import Any

from .calls import CONSTANTS, MAX_DEPTH, NUMBER, QUOTE, WINDOWS_PATH, ToolCall

QUOTES = (QUOTE, '"', "'")
MARK = re.escape(QUOTE)
NAME = r"[^\s{}()\[\]<>=,\"']+"
HEAD = re.compile(rf"\s*(?P<call>(?:call)?\s*:)?\s*(?P<name>{NAME})\s*(?P<open>[{{(]?)")
BETWEEN = re.compile(r"[\s,;]*")  # calls
KEY = re.compile(r"\s*([^:=,{}()\[\]<\"'\n]*[^:=,{}()\[\]<\"'\s])\s*[:=]")
QUOTED_KEY = re.compile(rf"\s*(?:{MARK}(.+?){MARK}|\"(.+?)\"|'(.+?)')\s*[:=]")
APOSTROPHE = re.compile(r"(?<=\w)'(?=\w)")
# What looks like the next key, where a comma is missing or a quote may stand in a text.
QUOTED = rf"{MARK}.{{1,99}}?{MARK}|\"[^\"]{{1,99}}\"|'[^']{{1,99}}'"
NEXT = rf"(?:[^\W\d][\w.\-]*|{QUOTED})\s*[:=]"
KEY_INSIDE = re.compile(rf"\s{NEXT}")
KEY_AND_QUOTE = {
    quote: re.compile(rf"[,\s][^\W\d][\w.\-]*\s*[:=]\s*{re.escape(quote)}")
    for quote in QUOTES
}
# Several strings, as a program would join them.
JOINED = {
    quote: re.compile(r"{0}(?:\s+|\s*[-+*/%&|.~]+\s*){0}".format(re.escape(quote)))
    for quote in QUOTES
}
# What may follow a string, by what closes the mapping or list that it stands in.
AFTER = {
    "}": re.compile(rf"\s*,?\s*(?:\}}|{NEXT})"),
    ")": re.compile(rf"\s*,?\s*(?:\)|{NEXT})"),
    "]": re.compile(rf"\s*(?:[\],\[{{\"']|{MARK})"),
}
BARE = {
    "}": re.compile(r"[^,\n{}\[\]]+"),
    ")": re.compile(r"[^,\n{}\[\]()]+"),
    "]": re.compile(r"[^,\n{}\[\]]+"),
}
TYPED = CONSTANTS | {"True": True, "False": False, "None": None}


class _NoReadingError(Exception):
    pass


def parse_loosely(text: str) -> list[ToolCall]:
    """The calls that `text` can only mean; none where it means no calls, or several
    things."""
    try:
        return _from_json(text) if text.lstrip()[:1] in ("{", "[") else _calls(text)
    except (_NoReadingError, RecursionError):
        return []


def _calls(text: str) -> list[ToolCall]:
    calls: list[ToolCall] = []
    at = 0
    while not calls or at < len(text):
        head = HEAD.match(text, at)
        if head is None or not (head["call"] or (head["open"] and not calls)):
            raise _NoReadingError
        if head["name"].endswith(":"):
            raise _NoReadingError
        parser = _Parser(text, head.end())
        arguments: dict[str, Any] = {}
        if head["open"]:
            arguments = parser.mapping("}" if head["open"] == "{" else ")", depth=0)
        calls.append(ToolCall(head["name"], arguments))
        between = BETWEEN.match(text, parser.at)
        at = between.end() if between else parser.at
    return calls


def _from_json(text: str) -> list[ToolCall]:
    """The shape that most other models use: a name, and arguments or parameters."""
    stated = _json(text)
    return [
        _json_call(call) for call in (stated if isinstance(stated, list) else [stated])
    ]


def _json_call(stated: Any) -> ToolCall:
    call = stated.get("function", stated) if isinstance(stated, dict) else None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise _NoReadingError
    arguments = call.get("arguments", call.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = _json(arguments or "{}")
    if not isinstance(arguments, dict):
        raise _NoReadingError
    return ToolCall(call["name"], arguments)


def _json(text: str) -> Any:
    try:
        return json.loads(
            text,
            parse_constant=_finite,
            parse_float=_finite,
            object_pairs_hook=_without_repeats,
        )
    except ValueError:
        raise _NoReadingError from None


def _finite(number: str) -> float:
    if not math.isfinite(value := float(number)):
        raise ValueError(number)
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(items := dict(pairs)) < len(pairs):
        raise ValueError("a key that is there twice")
    return items


class _Parser:
    """`at` is the next unread character."""

    def __init__(self, text: str, at: int):
        self.text = text
        self.at = at

    def mapping(self, close: str, depth: int) -> dict[str, Any]:
        items: dict[str, Any] = {}
        while not self._take(close):
            key = self._key()
            if key in items:
                raise _NoReadingError
            items[key] = self._value(close, depth + 1)
            self._take(",")
        return items

    def _list(self, depth: int) -> list[Any]:
        items = []
        while not self._take("]"):
            items.append(self._value("]", depth + 1))
            self._take(",")
        return items

    def _value(self, close: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise _NoReadingError
        if self._take("{"):
            return self.mapping("}", depth)
        if self._take("["):
            return self._list(depth)
        for quote in QUOTES:
            if self._take(quote):
                return self._string(quote, close)
        return self._bare(close)

    def _take(self, token: str) -> bool:
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1
        if not self.text.startswith(token, self.at):
            return False
        self.at += len(token)
        return True

    def _key(self) -> str:
        match = KEY.match(self.text, self.at) or QUOTED_KEY.match(self.text, self.at)
        if match is None:
            raise _NoReadingError
        self.at = match.end()
        return next(group for group in match.groups() if group)

    def _string(self, quote: str, close: str) -> str:
        for end in self._ends(quote):
            if AFTER[close].match(self.text, end + len(quote)):
                text = self.text[self.at : end]
                if KEY_AND_QUOTE[quote].search(text) or _is_cut(text, quote):
                    raise _NoReadingError  # it may have lacked its closing quote
                *parts, last = JOINED[quote].split(text)
                if parts and not any(quote in part for part in (*parts, last)):
                    raise _NoReadingError
                self.at = end + len(quote)
                return _unescaped(text, quote)
        raise _NoReadingError

    def _ends(self, quote: str) -> Iterator[int]:
        """Where a string may end; at quotes behind a backslash only if nowhere else."""
        escaped = []
        at = self.at
        while (at := self.text.find(quote, at)) >= 0:
            before = self.text[self.at : at]
            slashes = len(before) - len(before.rstrip("\\"))
            if quote != QUOTE and slashes % 2:
                escaped.append(at)
            else:
                yield at
            at += len(quote)
        yield from escaped

    def _bare(self, close: str) -> Any:
        match = BARE[close].match(self.text, self.at)
        words = match[0].split() if match else []
        if match is None or not words or QUOTE in match[0] or '"' in match[0]:
            raise _NoReadingError
        if (
            len(words) > 1
            and _typed(words[0])
            and (
                KEY_INSIDE.match(match[0], match[0].find(words[0]) + len(words[0]))
                or all(map(_typed, words))
            )
        ):
            # A comma is missing behind a number or a constant.
            self.at = self.text.index(words[0], self.at) + len(words[0])
            return _constant(words[0])
        if KEY_INSIDE.search(match[0].strip()) or match[0].strip().endswith("'"):
            raise _NoReadingError
        self.at = match.end()
        return _constant(match[0].strip())


def _is_cut(text: str, quote: str) -> bool:
    """Whether one of a string's inner quotes has no other: it may end further on.

    Gemma's own mark inside a text is a slip, and comes alone.
    """
    if quote == QUOTE:
        return False
    plain = re.sub(r"\\.", "", text)
    if quote == "'":
        plain = APOSTROPHE.sub("", plain)
    return plain.count(quote) % 2 == 1


def _typed(word: str) -> bool:
    return not isinstance(_constant(word), str)


def _constant(word: str) -> Any:
    """The number, or the constant of JSON or Python, or the text that a word is."""
    if word in TYPED:
        return TYPED[word]
    if not NUMBER.fullmatch(word) or len(word) > 4000:  # Python reads no longer ones
        return word
    number = float(word)
    if re.fullmatch(r"-?\d+", word):
        return int(word)
    return word if abs(number) == float("inf") else number


def _unescaped(text: str, quote: str) -> str:
    """A string in JSON's or Python's quotes as they read it, if they can."""
    if quote == QUOTE or "\\" not in text or WINDOWS_PATH.fullmatch(text):
        return text
    try:
        if quote == '"':
            return json.loads(f'"{text}"', strict=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of a backslash that escapes nothing
            return ast.literal_eval(f"'{text}'")
    except (ValueError, SyntaxError):
        return text
