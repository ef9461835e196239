"""JSON schemas, as JSON or in a line: `name, age int, tags str[]: what it is about`."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import ChatError

TYPES = {
    **{"str": "string", "string": "string", "int": "integer", "integer": "integer"},
    **{"float": "number", "number": "number", "bool": "boolean", "boolean": "boolean"},
}
FIELD = re.compile(r"(?P<name>\w+)(?P<optional>\?)?(\s+(?P<type>\w+)(?P<list>\[\])?)?")

Schema = Mapping[str, Any] | bool


def schema_of(given: "str | Schema") -> Schema:
    """A schema that was given as such, as JSON text, or in a line of fields.

    One that names properties and no type is taken to mean an object; for JSON Schema a
    mere number would do. Raises ChatError.
    """
    schema = given if not isinstance(given, str) else _read(given)
    if schema is True:
        return {}
    if schema is False:
        raise ChatError("The schema is false, which no answer satisfies.")
    if isinstance(schema, Mapping) and "properties" in schema and "type" not in schema:
        return {"type": "object", **schema}
    return schema


def _read(given: str) -> Schema:
    text = given.strip()
    if not text.startswith(("{", "true", "false")):
        return _of_fields(text)
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ChatError(f"The schema is not usable JSON: {error}.") from None
    if not isinstance(schema, dict | bool):
        raise ChatError("A schema is a JSON object.")
    return schema


def _lines(text: str) -> Iterator[str]:
    """One field each."""
    lines = text.split("\n")
    for line in lines:
        stated, colon, meaning = line.partition(":")
        if len(lines) > 1 and colon:
            *before, last = stated.split(",")
            yield from [*before, f"{last}:{meaning}"]
        else:
            yield from line.split(",")


def _of_fields(text: str) -> dict[str, Any]:
    """An object with the fields of `text`, one per line or between commas; behind a
    colon is what a field means: to the end of the line if there are several lines, else
    to the next comma."""
    properties: dict[str, Any] = {}
    required = []
    for line in filter(None, map(str.strip, _lines(text))):
        stated, _, meaning = (part.strip() for part in line.partition(":"))
        field = FIELD.fullmatch(stated)
        kind = TYPES.get(field["type"] or "str") if field else None
        if field is None or kind is None:
            raise ChatError(
                f"{line!r} is no field of a schema: write name, age int, tags str[], "
                "with ? for what may be missing and : before what it means."
            )
        if field["name"] in properties:
            raise ChatError(f"The schema names {field['name']!r} twice.")
        value: dict[str, Any] = {"type": kind}
        if field["list"]:
            value = {"type": "array", "items": value}
        if meaning:
            value["description"] = meaning
        properties[field["name"]] = value
        if not field["optional"]:
            required.append(field["name"])
    if not properties:
        raise ChatError("The schema is empty.")
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
