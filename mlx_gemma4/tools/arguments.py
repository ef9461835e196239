"""Arguments as a declaration has them, near misses of a model brought to it."""

import json
import math
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

Schema = dict[str, Any]

TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": dict,
    "array": list,
    "null": NoneType,
}


class ArgumentError(ValueError):
    """An argument that a tool cannot take; its text is for the model to read."""


def fitted(value: Any, schema: Mapping[str, Any], name: str) -> Any:
    """`value` as the schema has it: "3" is taken for 3, text of JSON for a list, null
    for an argument that is left out.

    name: of the argument; empty for all arguments of a call.

    What a schema says beyond types, choices and fields, and what it does not name, is
    left to the tool.
    Raises ArgumentError that says what is wrong.
    """
    if value is None and _takes_null(schema):
        return None
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return _one_of(value, schema[key], name)
    if "enum" in schema:
        return _choice(value, schema["enum"], name)
    if kinds := _kinds(schema):
        value = _of_type(value, kinds, name)
    if isinstance(value, dict):
        return _object(value, schema, name)
    if isinstance(value, list) and isinstance(items := schema.get("items"), dict):
        return [fitted(item, items, f"{name}[{i}]") for i, item in enumerate(value)]
    return value


def _object(value: dict[str, Any], schema: Mapping[str, Any], name: str) -> Any:
    properties = schema.get("properties") or {}
    required = schema.get("required") or ()
    inside = f"{name}." if name else ""
    for key in required:
        if key not in value:
            raise ArgumentError(f"{inside}{key} is missing.")
    return {
        key: fitted(item, properties.get(key, {}), inside + key)
        for key, item in value.items()
        if item is not None or key in required or _takes_null(properties.get(key, {}))
    }


def _kinds(schema: Mapping[str, Any]) -> Sequence[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds


def _takes_null(schema: Mapping[str, Any]) -> bool:
    options = schema.get("anyOf") or schema.get("oneOf") or ()
    if schema.get("nullable") or any(map(_takes_null, options)):
        return True
    kinds = _kinds(schema) or schema.get("enum") or options
    return not kinds or "null" in kinds or None in kinds


def _one_of(value: Any, options: Sequence[Mapping[str, Any]], name: str) -> Any:
    """As the option has it that changes nothing, else as the first that takes it."""
    found, wrong = [], []
    for option in options:
        try:
            found.append(fitted(value, option, name))
        except ArgumentError as error:
            wrong.append(str(error))
    if not found:
        raise ArgumentError(" Or: ".join(dict.fromkeys(wrong)))
    return value if any(same(value, each) for each in found) else found[0]


def same(a: Any, b: Any) -> bool:
    """Whether both are the same JSON: 1, 1.0 and true are three things."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def _choice(value: Any, choices: Sequence[Any], name: str) -> Any:
    if any(same(value, choice) for choice in choices):
        return value
    meant = [c for c in choices if str(c).lower() == str(value).strip().lower()]
    if len(meant) == 1:
        return meant[0]
    listed = ", ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
    raise ArgumentError(f"{name} must be one of {listed}, not {_shown(value)}.")


def _of_type(value: Any, kinds: Sequence[str], name: str) -> Any:
    if any(_is(value, kind) for kind in kinds):
        return value
    for kind in kinds:
        near = _near(value, kind)
        if _is(near, kind):
            return near
    wanted = " or ".join(f"of type {kind}" for kind in kinds)
    raise ArgumentError(f"{name or 'They'} must be {wanted}, not {_shown(value)}.")


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, TYPES.get(kind, object))


def _near(value: Any, kind: str) -> Any:
    """What a model may have meant: a number in quotes, or without them."""
    if kind == "string" and isinstance(value, int | float):
        return json.dumps(value)
    if kind != "string" and isinstance(value, str):
        try:
            value = json.loads(value.lower() if kind == "boolean" else value)
        except (ValueError, RecursionError):
            return value
    whole = kind == "integer" and isinstance(value, float) and value.is_integer()
    return int(value) if whole else value


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:80]}…"
