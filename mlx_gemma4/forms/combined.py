"""A schema as the plain ones of which a value has to satisfy any: references followed,
allOf, anyOf and oneOf resolved."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any, Never

from ..chat.schemas import MAX_DEPTH, NAMES
from ..errors import ChatError

Schema = dict[str, Any]

# What holds nothing about a value.
NOTES = {"title", "description", "default", "examples", "deprecated", "format"}
NOTES |= {"$schema", "$id", "$comment", "$defs", "definitions", "$anchor"}
NOTES |= {"readOnly", "writeOnly", "contentEncoding", "contentMediaType", "example"}
KINDS = ("string", "integer", "number", "boolean", "null", "array", "object")
# Without a type, what these hold is meant of one.
MEANT = {
    **dict.fromkeys(("properties", "required", "additionalProperties"), "object"),
    **dict.fromkeys(("items", "minItems", "maxItems", "uniqueItems"), "array"),
    **dict.fromkeys(("minLength", "maxLength", "pattern"), "string"),
    **dict.fromkeys(("minimum", "maximum", "multipleOf"), "number"),
    **dict.fromkeys(("exclusiveMinimum", "exclusiveMaximum"), "number"),
}
MOST = 200  # plain schemas of one


def kinds_of(schema: Schema) -> list[str]:
    """The types that a plain schema allows; none where it says nothing of them."""
    stated = schema.get("type")
    if stated is not None:
        return stated if isinstance(stated, list) else [stated]
    if values := values_of(schema):
        return list(dict.fromkeys(map(kind_of, values)))
    return list(dict.fromkeys(MEANT[key] for key in schema if key in MEANT))


def kind_of(value: Any) -> str:
    """The type of a JSON value."""
    if value is None or isinstance(value, list):
        return "null" if value is None else "array"
    return NAMES.get(type(value), "object")


def values_of(schema: Schema) -> list[Any]:
    """The values that a schema lists, if it does."""
    values = schema.get("enum")
    if "const" in schema:
        values = [schema["const"]]
    return values if isinstance(values, list) else []


class Combined:
    """The schema of one tool's parameters. Its errors begin with `where`."""

    def __init__(self, root: Schema, where: str) -> None:
        self._root, self._where = root, where

    def refuse(self, what: str) -> Never:
        raise ChatError(f"{self._where}: its calls cannot be held to {what}.")

    def options(self, stated: Any, depth: int) -> list[Schema]:
        """Raises ChatError for what cannot be resolved, and what nothing satisfies."""
        if depth > MAX_DEPTH:
            self.refuse("a schema that is nested so deeply, or within itself")
        if not isinstance(stated, Mapping):
            return [{}] if stated is True else self.refuse(f"the schema {stated!r}")
        schema = {k: v for k, v in stated.items() if _holds(k, v)}
        groups = [[part] for part in schema.pop("allOf", None) or ()]
        if ref := schema.pop("$ref", None):
            groups.append([self._at(ref)])
        if some := schema.pop("anyOf", None):
            groups.append(some)
        found = [schema]
        for group in groups:
            others = [o for part in group for o in self.options(part, depth + 1)]
            found = self._all(found, others)
        if one := schema.pop("oneOf", None):
            others = [self.options(part, depth + 1) for part in one]
            for first, second in combinations(others, 2):
                if not all(_apart(a, b) for a in first for b in second):
                    self.refuse("oneOf where a value may be of two of its schemas")
            found = self._all(found, [each for group in others for each in group])
            found = [{k: v for k, v in o.items() if k != "oneOf"} for o in found]
        return found

    def _at(self, ref: str) -> Any:
        found: Any = self._root
        start, *keys = ref.split("/")
        for key in keys:
            key = key.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, dict) else None
        return found if start == "#" and found is not None else self.refuse(ref)

    def _all(self, first: list[Schema], second: list[Schema]) -> list[Schema]:
        if len(first) * len(second) > MOST:
            self.refuse(f"more than {MOST} alternatives")
        found = [both for a in first for b in second for both in self._both(a, b)]
        return found or self.refuse("schemas that contradict each other")

    def _both(self, a: Schema, b: Schema) -> Iterator[Schema]:
        """What holds both, unless they contradict each other."""
        both = {**a, **b}
        for one, other in ((a, b), (b, a)):
            names = other.get("properties", {}).keys() - one.get("properties", {})
            if names and one.get("additionalProperties", True) is not True:
                self.refuse("additionalProperties beside the properties of another")
        for key in (a.keys() & b.keys()) - NOTES:
            if a[key] == b[key]:
                continue
            if key == "required":
                both[key] = [*a[key], *b[key]]
            elif key == "properties":
                shared = a[key].keys() & b[key].keys()
                twice = {n: {"allOf": [a[key][n], b[key][n]]} for n in shared}
                both[key] = {**a[key], **b[key], **twice}
            elif key == "type":
                kinds = _common(kinds_of(a), kinds_of(b))
                if not kinds:
                    return
                both[key] = kinds
            else:
                self.refuse(f"two of {key} at once")
        yield both


def _holds(key: str, value: Any) -> bool:
    """Whether a word of a schema says anything: those of an API's own do not, nor that
    names are texts."""
    if key == "propertyNames":
        return value not in (True, {}, {"type": "string"})
    return not key.startswith("x-") and (value is not None or key == "const")


def _common(a: list[str], b: list[str]) -> list[str]:
    """The types that are among both; an integer is a number."""
    both = [kind for kind in a if kind in b]
    wide = [*a, *b]
    if "integer" in wide and "number" in wide and "integer" not in both:
        both.append("integer")
    return both


def _apart(a: Schema, b: Schema) -> bool:
    """Whether no value can satisfy both, as far as types and listed values tell."""
    if kinds_of(a) and kinds_of(b) and not _common(kinds_of(a), kinds_of(b)):
        return True
    if values_of(a) and values_of(b):
        return not any(value in values_of(b) for value in values_of(a))
    both = {*a.get("required", ())} & {*b.get("required", ())}
    fields = [(a.get("properties", {}), b.get("properties", {}))] * bool(both)
    return any(
        values_of(mine[name])
        and values_of(yours[name])
        and not any(value in values_of(yours[name]) for value in values_of(mine[name]))
        for mine, yours in fields
        for name in both & mine.keys() & yours.keys()
    )
