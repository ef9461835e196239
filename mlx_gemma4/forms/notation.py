"""A tool's schema as rules of a Lark grammar: values in Gemma 4's own notation.

Keys come in the order in which templates write a call that was made. What JSON Schema
only notes, `format` and `default` among it, holds nothing; what cannot be held is
refused by name.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from ..chat.calls import KEY, QUOTE
from .combined import MEANT, NOTES, Combined, Schema, kind_of, kinds_of, values_of

FAR = 9 * 10**18  # the largest bound of a number that llguidance keeps to
NESTED = 3  # levels of lists and mappings in what is not declared at all
LOWER, UPPER = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
NUMBERS = (*LOWER, *UPPER, "multipleOf")
ANY = "(?s:.*)"  # as a regular expression
OTHERS = {"type", "enum", "const", "nullable"}

# The digits of a number are limited to what its readers can hold.
SHARED = r"""
any0: text | NUMBER | "true" | "false" | "null"
text: {mark} TEXT {mark}
key: (KEY | text) ":"
TEXT: /(?s:.*)/ & ~MARKED
MARKED: /(?s:.*)<\|"\|>(?s:.*)/
KEY: /[\w.\-]{{1,64}}/
INTEGER: /-?(0|[1-9][0-9]{{0,39}})/
NUMBER: /-?(0|[1-9][0-9]{{0,39}})(\.[0-9]{{1,40}})?([eE][+\-]?[0-9]{{1,2}})?/
"""


def quoted(text: str) -> str:
    """A text of a grammar."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", r"\u007f")


class Notation:
    """Rules for the calls of several tools, each with another number.

    mark: the token around texts, as the grammar names it.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._rules = SHARED.format(mark=mark).splitlines()
        for level in range(NESTED):
            items = f"any{level}"
            rest = f'"[" ({items} ("," {items})*)? "]" | {_mapping(items)}'
            self._rules.append(f"any{level + 1}: {items} | {rest}")
        self._count = 0

    def rules(self) -> str:
        return "\n".join(self._rules)

    def arguments(self, parameters: Schema, where: str) -> str:
        """What a call of a tool has in its braces. Raises ChatError."""
        schema = {**parameters, "type": "object"}
        schema.pop("nullable", None)
        combined = Combined(schema, where)
        if "object" not in (kinds := kinds_of({"type": "object", **parameters})):
            combined.refuse(f"parameters of the type {', '.join(map(str, kinds))}")
        stated = schema.keys() - NOTES - {"type", "required"}
        if not schema.get("properties") and stated <= {"properties"}:
            schema["additionalProperties"] = False  # nothing is said of any
        return Values(self, combined).of(schema)

    def add(self, rule: str) -> str:
        """The name of a rule."""
        self._count += 1
        self._rules.append(f"r{self._count}: {rule}")
        return f"r{self._count}"

    def text(self, limits: Sequence[str]) -> str:
        """A text that matches all of some regular expressions."""
        self._count += 1
        self._rules.append(f"T{self._count}: {' & '.join([*limits, '~MARKED'])}")
        return f"{self._mark} T{self._count} {self._mark}"

    def constant(self, value: Any) -> str:
        """A value that is known, as templates write it."""
        if isinstance(value, str):
            return f"{self._mark} {quoted(value) if value else ''} {self._mark}"
        if isinstance(value, list):
            return f'"[" {_separated([self.constant(each) for each in value])} "]"'
        if isinstance(value, dict):
            pairs = [
                f"{self.name(k)} {self.constant(value[k])}" for k in sorted_as(value)
            ]
            return f'"{{" {_separated(pairs)} "}}"'
        return quoted(json.dumps(value))

    def name(self, key: str) -> str:
        """A key, bare where that can be read."""
        bare = KEY.fullmatch(f"{key}:")
        if bare and bare[1] == key and not key.isspace():
            return quoted(f"{key}:")
        return f'{self.constant(key)} ":"'


def sorted_as(names: Any) -> list[str]:
    """Names as `dictsort` of templates has them."""
    return sorted(names, key=str.lower)


def _separated(parts: Sequence[str]) -> str:
    return ' "," '.join(parts)


def _mapping(value: str) -> str:
    return f'"{{" (key {value} ("," key {value})*)? "}}"'


class Values:
    """Rules for the values in one tool's calls."""

    def __init__(self, notation: Notation, combined: Combined) -> None:
        self._notation, self._combined = notation, combined

    def of(self, stated: Any, depth: int = 0) -> str:
        """The rule of a schema. Raises ChatError."""
        options = self._combined.options(stated, depth)
        return self._notation.add(" | ".join(self._plain(o, depth) for o in options))

    def _plain(self, schema: Schema, depth: int) -> str:
        if unknown := sorted(schema.keys() - MEANT.keys() - NOTES - OTHERS):
            self._combined.refuse(f"{', '.join(unknown)} in its schema")
        kinds = kinds_of(schema)
        if "enum" in schema or "const" in schema:
            rules = self._listed(schema, kinds)
        elif kinds:
            rules = [self._of_kind(kind, schema, depth) for kind in kinds]
        else:
            rules = [f"any{NESTED}"]
        if schema.get("nullable") is True:
            rules.append('"null"')
        return " | ".join(rules)

    def _of_kind(self, kind: str, schema: Schema, depth: int) -> str:
        if kind == "string":
            return self._text(schema)
        if kind in ("integer", "number"):
            return self._number(kind, schema)
        if kind == "boolean":
            return '("true" | "false")'
        if kind == "null":
            return '"null"'
        if kind == "array":
            return self._list(schema, depth)
        if kind == "object":
            return self._object(schema, depth)
        self._combined.refuse(f"the type {kind!r}")

    def _listed(self, schema: Schema, kinds: list[str]) -> list[str]:
        if more := sorted(schema.keys() & MEANT.keys()):
            self._combined.refuse(f"{', '.join(more)} beside listed values")
        if "enum" in schema and "const" in schema:
            self._combined.refuse("enum and const at once")
        wide = {*kinds, "integer"} if "number" in kinds else kinds
        values = [value for value in values_of(schema) if kind_of(value) in wide]
        if any(QUOTE in json.dumps(each).replace(r"\"", '"') for each in values):
            self._combined.refuse(f"a listed value with {QUOTE} in it")
        if not values:
            self._combined.refuse("an enum without any value that fits")
        return [f"({self._notation.constant(value)})" for value in values]

    def _text(self, schema: Schema) -> str:
        least, most = self._count(schema, "minLength"), self._count(schema, "maxLength")
        limits = []
        if least or most is not None:
            limits.append(f"/(?s:{_times('.', least, most)})/")
        if pattern := schema.get("pattern"):
            limits.append(f"/{_searched(str(pattern))}/")
        return self._notation.text(limits) if limits else "text"

    def _count(self, schema: Schema, key: str) -> int | None:
        value = schema.get(key)
        if value is not None and (type(value) is not int or value < 0):
            self._combined.refuse(f"{key} {value!r}")
        return value

    def _number(self, kind: str, schema: Schema) -> str:
        kept = {key: schema[key] for key in NUMBERS if key in schema}
        if not kept:
            return kind.upper()
        for key, value in kept.items():
            if isinstance(value, int | float) and key != "multipleOf":
                if value > FAR if key in LOWER else value < -FAR:
                    self._combined.refuse(f"{key} {value}")
                kept[key] = max(-FAR, min(value, FAR))
        if not kept.keys() & {*LOWER}:
            kept["minimum"] = -FAR
        if not kept.keys() & {*UPPER}:
            kept["maximum"] = FAR
        return f"%json {json.dumps({'type': kind, **kept})}"

    def _list(self, schema: Schema, depth: int) -> str:
        least, most = self._count(schema, "minItems"), self._count(schema, "maxItems")
        if schema.get("uniqueItems"):
            self._combined.refuse("uniqueItems")
        if most is not None and (least or 0) > most:
            self._combined.refuse("minItems above maxItems")
        if most == 0:
            return '"[" "]"'
        item = self.of(schema.get("items", True), depth + 1)
        more = _times(f'("," {item})', max((least or 0) - 1, 0), most and most - 1)
        some = item if most == 1 else f"{item} {more}"
        return f'"[" {some if least else f"({some})?"} "]"'

    def _object(self, schema: Schema, depth: int) -> str:
        fields = schema.get("properties", {})
        required = schema.get("required", [])
        others = schema.get("additionalProperties", True)
        if wrong := [name for name in required if not isinstance(name, str)]:
            self._combined.refuse(f"{wrong[0]!r} as what is required")
        if missing := [name for name in required if name not in fields]:
            if others is False:
                self._combined.refuse(f"{missing[0]!r}, required and not allowed")
            fields = {**fields, **dict.fromkeys(missing, others)}
        if not fields:
            if others is False:
                return '"{" "}"'
            return _mapping(self.of(others, depth + 1))
        if wrong := [name for name in fields if QUOTE in name]:
            self._combined.refuse(f"{wrong[0]!r} as the name of an argument")
        names = sorted_as(fields)
        # What may follow from each name on, at first and behind another.
        first = behind = '""'
        for name in reversed(names):
            value = f"{self._notation.name(name)} {self.of(fields[name], depth + 1)}"
            with_first, with_more = f"{value} {behind}", f'"," {value} {behind}'
            if name in required:
                first, behind = with_first, self._notation.add(with_more)
            else:
                first = f"{with_first} | {self._notation.add(first)}"
                behind = self._notation.add(f"{with_more} | {behind}")
        return f'"{{" ({first}) "}}"'


def _times(what: str, least: int | None, most: int | None) -> str:
    return f"{what}{{{least or 0},{'' if most is None else most}}}"


def _searched(pattern: str) -> str:
    """A pattern that is searched for, as one that has to match all of a text."""
    ends = re.search(r"(?<!\\)(\\\\)*\$$", pattern)
    inner = pattern.removeprefix("^")[: -1 if ends else None]
    inner = re.sub(r"(\\.)|/", lambda found: found[1] or r"\/", inner, flags=re.DOTALL)
    before = "" if pattern.startswith("^") else ANY
    inner = inner.replace("\n", r"\n")
    return f"{before}(?:{inner}){'' if ends else ANY}"
