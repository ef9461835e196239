"""Type hints, both ways: a JSON schema of one, and its value of what JSON holds."""

import json
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from inspect import getdoc, isclass
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from docstring_parser import Docstring, parse

from ..errors import ChatError
from .arguments import ArgumentError, Schema, fitted, same
from .result import plain, word

NAMES = {str: "string", int: "integer", float: "number", bool: "boolean"}
NAMES[Path] = "string"
CHOICES = (str, int, bool, NoneType)
LISTS = (list, Sequence, Collection, Iterable)
MAPPINGS = (dict, Mapping, MutableMapping)
KNOWN = (
    "str, int, float, bool, Path, list, dict, Literal, Enum, Optional, Union, "
    "Annotated, a dataclass, a TypedDict or Any"
)


@dataclass(frozen=True)
class Field:
    """What a function, a dataclass or a TypedDict takes under a name."""

    hint: Any
    required: bool
    default: Any = None


def hints_of(source: Any, where: str) -> dict[str, Any]:
    """The hints of a function or a class, those given as text understood."""
    try:
        return get_type_hints(source, include_extras=True)
    except Exception as error:  # it evaluates what people have written
        raise ChatError(f"A type of {where} cannot be understood: {error}.") from None


def object_schema(
    taken: Mapping[str, Field],
    texts: Mapping[str, str],
    where: str,
    within: tuple[type, ...] = (),
) -> Schema:
    """Of an object with these fields.

    texts: the descriptions of fields.
    within: the classes that it is a part of.
    """
    properties: Schema = {}
    for name, field in taken.items():
        schema = schema_of(field.hint, f"{where}.{name}", within)
        said = [texts.get(name, ""), schema.get("description", "")]
        told = "default" in said[0].lower()
        if (default := field.default) is not None and not told:
            default = plain(default) if isinstance(default, Enum) else default
            said.append(f"Default: {json.dumps(default, default=plain)}.")
        if text := _sentences(said):
            schema["description"] = text
        properties[name] = schema
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name, field in taken.items() if field.required],
    }


def schema_of(hint: Any, where: str, within: tuple[type, ...] = ()) -> Schema:
    """Raises ChatError that names `where` for a type that JSON has nothing like."""
    hint, text = _bare(hint)
    kind, inside = _kind(hint), get_args(hint)
    schema: Schema
    if hint in (Any, object):
        schema = {}
    elif isclass(kind) and kind in NAMES:
        schema = {"type": NAMES[kind]}
    elif kind in (Union, UnionType):
        schema = _union(inside, where, within)
    elif isclass(kind) and issubclass(kind, Enum):
        schema = _choices([word(member) for member in kind])
    elif kind in LISTS:
        items = schema_of(inside[0] if inside else Any, f"{where}[]", within)
        schema = {"type": "array", "items": items} if items else {"type": "array"}
    elif kind in MAPPINGS:
        schema = _mapping(inside, where, within)
    elif isclass(kind) and (is_dataclass(kind) or is_typeddict(kind)):
        schema = _of_class(kind, where, within)
    elif kind is Literal and all(type(each) in CHOICES for each in inside):
        schema = _choices(inside)
    else:
        shown = hint.__name__ if isclass(hint) else hint
        raise ChatError(
            f"{where} is of type {shown}, which cannot be declared. Use {KNOWN}."
        )
    return {**schema, "description": text} if text else schema


def value_of(value: Any, hint: Any, where: str) -> Any:
    """What a function takes for `value`, which fits the schema of the hint."""
    hint, _ = _bare(hint)
    kind, inside = _kind(hint), get_args(hint)
    if kind in (Union, UnionType):
        return _value_of_union(value, inside, where)
    if value is None or kind is Literal or hint in (Any, object):
        return value
    if kind in (float, Path):
        return kind(value)
    if isclass(kind) and issubclass(kind, Enum):
        return next(member for member in kind if word(member) == value)
    if kind in LISTS and inside:
        return [value_of(item, inside[0], f"{where}[]") for item in value]
    if kind in MAPPINGS and inside:
        schema = schema_of(inside[1], where)
        return {
            key: value_of(fitted(item, schema, f"{where}.{key}"), inside[1], where)
            for key, item in value.items()
        }
    if isclass(kind) and (is_dataclass(kind) or is_typeddict(kind)):
        return kind(**values_of(value, _fields_of(kind, where), where))
    return value


def values_of(
    values: Mapping[str, Any], taken: Mapping[str, Field], where: str
) -> dict[str, Any]:
    """`value_of` for every value, by name.

    Raises ArgumentError for a name that is not among those taken.
    """
    inside = f"{where}." if where else ""
    if unknown := [name for name in values if name not in taken]:
        known = ", ".join(taken) or "nothing"
        raise ArgumentError(f"There is no {inside}{unknown[0]}: it takes {known}.")
    return {
        name: value_of(value, taken[name].hint, inside + name)
        for name, value in values.items()
    }


def docstring_of(source: Any) -> Docstring:
    """Of a function or a class, whatever its style; empty where there is none."""
    return parse(getdoc(source) or "")


def texts_of(docstring: Docstring) -> dict[str, str]:
    """What a docstring says of parameters and attributes."""
    return {
        name.strip(): " ".join((each.description or "").split())
        for each in docstring.params
        for name in each.arg_name.split(",")  # NumPy's way to describe two at once
    }


def _kind(hint: Any) -> Any:
    """Of `list[int]`, list."""
    return get_origin(hint) or hint


def _bare(hint: Any) -> tuple[Any, str]:
    """A hint without what is wrapped around it, and what is said there."""
    text = ""
    while True:
        origin = get_origin(hint)
        if origin is Annotated:
            for said in hint.__metadata__:
                said = getattr(
                    said, "description", getattr(said, "documentation", said)
                )
                text = text or (said if isinstance(said, str) else "")
        if origin in (Annotated, Required, NotRequired):
            hint = get_args(hint)[0]
        elif hasattr(hint, "__supertype__") or hasattr(hint, "__value__"):
            hint = getattr(hint, "__supertype__", getattr(hint, "__value__", None))
        else:
            return hint, text


def _union(options: Sequence[Any], where: str, within: tuple[type, ...]) -> Schema:
    values = [option for option in options if option is not NoneType]
    schemas = [schema_of(value, where, within) for value in values]
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    return {**schema, "nullable": True} if len(values) < len(options) else schema


def _value_of_union(value: Any, options: Sequence[Any], where: str) -> Any:
    """Of the option that has it as it is, else of the first that takes it."""
    if value is None:
        return None
    made, wrong = [], []
    for option in (each for each in options if each is not NoneType):
        try:
            found = fitted(value, schema_of(option, where), where)
            taken = value_of(found, option, where)
        except ArgumentError as error:
            wrong.append(str(error))
            continue
        if same(found, value):
            return taken
        made.append(taken)
    if not made:
        raise ArgumentError(" Or: ".join(dict.fromkeys(wrong)))
    return made[0]


def _choices(values: Sequence[Any]) -> Schema:
    choices = [value for value in values if value is not None]
    kinds = {NAMES[type(choice)] for choice in choices}
    schema: Schema = {"enum": choices}
    if len(kinds) == 1:
        schema = {"type": kinds.pop(), **schema}
    return {**schema, "nullable": True} if len(choices) < len(values) else schema


def _mapping(inside: Sequence[Any], where: str, within: tuple[type, ...]) -> Schema:
    """Templates have no words for what the values of unnamed keys are."""
    if inside and inside[0] is not str:
        raise ChatError(f"The keys of {where} must be str: JSON has no others.")
    values = schema_of(inside[1], f"{where}{{}}", within) if inside else {}
    if not values:
        return {"type": "object"}
    told = f"of the schema {json.dumps(values)}"
    if values.keys() == {"type"}:
        told = f"of type {values['type']}"
    return {"type": "object", "description": f"Its values are {told}."}


def _of_class(kind: type, where: str, within: tuple[type, ...]) -> Schema:
    if kind in within:
        raise ChatError(
            f"{where} is a {kind.__name__} within a {kind.__name__}: a declaration "
            "without an end."
        )
    return object_schema(
        _fields_of(kind, where), texts_of(docstring_of(kind)), where, (*within, kind)
    )


def _fields_of(kind: Any, where: str) -> dict[str, Field]:
    """Of a dataclass or a TypedDict."""
    hints = hints_of(kind, where)
    if is_typeddict(kind):
        return {n: Field(h, n in kind.__required_keys__) for n, h in hints.items()}
    return {each.name: _field(hints, each) for each in fields(kind) if each.init}


def _field(hints: Mapping[str, Any], field: Any) -> Field:
    hint, default = hints[field.name], field.default
    if field.default_factory is not MISSING:
        default = field.default_factory()
    return Field(hint, True) if default is MISSING else Field(hint, False, default)


def _sentences(texts: Iterable[str]) -> str:
    """Different texts, one behind the other."""
    *before, last = dict.fromkeys(text.strip() for text in texts if text) or [""]
    return " ".join([*(t if t[-1] in ".!?" else f"{t}." for t in before), last])
