"""JSON as models write it: what is meant, where the letter of it is wrong.

Single quotes, bare words, quotation marks and line ends within a text, commas too many
or missing, `=` for `:`, round brackets, Python's names, and a last bracket left out.
"""

import re
from typing import Any

DEEPEST = 20
WORDS: dict[str, Any] = {
    **{"true": True, "false": False, "null": None},
    **{"True": True, "False": False, "None": None},
}
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
BARE = re.compile(r"[^\[\](){},:='\"\n]+")
BLANK = re.compile(r"\s*(?:(?://|#)[^\n]*\s*)*")
# A quotation mark ends a text only before what may follow one.
ENDS_TEXT = re.compile(r"\s*([,:=\]})]|```|$)")
ENDS_ANSWER = re.compile(r"(\s|```)*$")
ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
CLOSING = {"{": "}", "[": "]", "(": ")"}


def read_loosely(text: str, start: int) -> tuple[Any, int]:
    """The value that begins at `start`, and where it ends.

    Raises ValueError where no value can be meant, or the text ends within one.
    """
    return _value(text, start, 0)


def _value(text: str, at: int, depth: int) -> tuple[Any, int]:
    at = _after_blank(text, at)
    if depth > DEEPEST or at >= len(text):
        raise ValueError("no value")
    first = text[at]
    if first == "{":
        return _object(text, at + 1, depth + 1)
    if first in "[(":
        return _list(text, at + 1, CLOSING[first], depth + 1)
    if first in "'\"":
        return _quoted(text, at + 1, first)
    bare = BARE.match(text, at)
    if bare is None:
        raise ValueError("no value")
    return _meaning(bare.group().strip()), bare.end()


def _object(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    members: dict[str, Any] = {}
    while True:
        at = _after_blank(text, at)
        if text.startswith("}", at):
            return members, at + 1
        # The bracket was left out: before another one, or at the very end.
        if members and (text.startswith(("]", ")", "{"), at) or _ended(text, at)):
            return members, at
        key, at = _value(text, at, depth)
        at = _after_blank(text, at)
        if not isinstance(key, str) or text[at : at + 1] not in (":", "="):
            raise ValueError("no key")
        members[key], at = _value(text, at + 1, depth)
        at = _after_comma(text, at)


def _list(text: str, at: int, closing: str, depth: int) -> tuple[list[Any], int]:
    values: list[Any] = []
    while True:
        at = _after_blank(text, at)
        if text.startswith(closing, at):
            return values, at + 1
        value, at = _value(text, at, depth)
        values.append(value)
        at = _after_comma(text, at)


def _quoted(text: str, at: int, quote: str) -> tuple[str, int]:
    letters: list[str] = []
    while at < len(text):
        letter = text[at]
        if letter == quote and ENDS_TEXT.match(text, at + 1):
            return "".join(letters), at + 1
        if letter == "\\" and at + 1 < len(text):
            at += 1
            letter = ESCAPES.get(text[at], text[at])
        letters.append(letter)
        at += 1
    raise ValueError("a text without an end")


def _meaning(word: str) -> Any:
    if word in WORDS:
        return WORDS[word]
    return float(word) if NUMBER.fullmatch(word) else word


def _after_blank(text: str, at: int) -> int:
    match = BLANK.match(text, at)
    return match.end() if match is not None else at


def _after_comma(text: str, at: int) -> int:
    """Behind a comma, also where it is missing; an answer cut off there is no whole."""
    at = _after_blank(text, at)
    if not text.startswith(",", at):
        return at
    at = _after_blank(text, at + 1)
    if _ended(text, at):
        raise ValueError("cut off behind a comma")
    return at


def _ended(text: str, at: int) -> bool:
    return ENDS_ANSWER.match(text, at) is not None
