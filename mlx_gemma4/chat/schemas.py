"""JSON schemas of tools, in the words that chat templates have for them.

Google's templates say a value's type, description and text choices, whether it may be
null, and what is inside objects and lists; of all else they write nothing, and nothing
usable of unions and references. What can be said with these words is brought into them.
"""

import json
from functools import reduce
from typing import Any

from ..errors import ChatError

Schema = dict[str, Any]

SAID = {"type", "description", "enum", "items", "nullable", "properties", "required"}
# Names, notes and what is looked up: nothing is lost where they are not written.
NOTES = {"title", "examples", "deprecated", "$schema", "$id", "$comment", "$defs"}
NOTES |= {"definitions", "readOnly", "writeOnly", "additionalProperties"}
ANYTHING = ["string", "number", "boolean", "object", "array"]
NAMES = {str: "string", bool: "boolean", int: "integer", float: "number"}
SHAPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("properties", "$defs", "definitions"), dict),
    **dict.fromkeys(("required", "enum", "allOf", "anyOf", "oneOf"), list),
    **dict.fromkeys(("description", "$ref"), str),
    "type": (str, list),
}
MAX_DEPTH = 50
MAX_PARTS = 3000  # of one tool, references followed: a large one has some hundreds


class Sayable:
    """Brings the schema of one tool's parameters into what templates say.

    `unsaid` lists what no template writes: keys, with the places they stand in.
    """

    def __init__(self, root: Schema, where: str):
        self._root = root
        self._where = where
        self._parts = 0
        self.unsaid: dict[str, list[str]] = {}

    def whole(self) -> Schema:
        """Raises ChatError for a reference that leads nowhere or to itself."""
        return self._said(self._root, (), "", listed=False)

    def _said(
        self, stated: Any, refs: tuple[str, ...], place: str, listed: bool
    ) -> Schema:
        """listed: it describes the items of a list, of which every key is written."""
        if place.count(".") > MAX_DEPTH:
            raise ChatError(f"{self._where}: its schema is nested too deeply.")
        schema, refs = self._followed(stated, refs)
        schema = self._united(schema, refs, place)
        _take_null(schema)
        if not listed:
            _choices(schema)
        if "properties" in schema:
            schema["properties"] = {
                name: self._said(value, refs, f"{place}.{name}", listed=False)
                for name, value in schema["properties"].items()
            }
        if isinstance(schema.get("items"), dict):
            schema["items"] = self._said(schema["items"], refs, place, listed=True)
        if "type" not in schema and not listed:
            kinds = {"properties": "object", "items": "array"}
            found = [kind for key, kind in kinds.items() if key in schema]
            schema["type"] = found[0] if found else ANYTHING
        for key, value in schema.items() if not listed else ():
            if key in SAID or (key in NOTES and not isinstance(value, dict)):
                continue
            if key not in ("$defs", "definitions"):
                self.unsaid.setdefault(key, []).append(place.removeprefix("."))
        return schema

    def _followed(
        self, stated: Any, refs: tuple[str, ...]
    ) -> tuple[Schema, tuple[str, ...]]:
        """A copy in which what `$ref` names stands itself, and the names followed."""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise ChatError(
                f"{self._where}: with all references followed, its schema has more "
                f"than {MAX_PARTS} parts."
            )
        schema = self._checked(stated)
        while (ref := schema.pop("$ref", None)) is not None:
            if ref in refs:
                raise ChatError(
                    f"{self._where}: {ref} refers to itself, and a template cannot "
                    "write a schema without an end."
                )
            refs = (*refs, ref)
            schema = {**self._checked(self._at(ref)), **schema}
        return schema, refs

    def _checked(self, stated: Any) -> Schema:
        """A copy without what is null. True and False say nothing about a value."""
        if isinstance(stated, bool):
            return {}
        if not isinstance(stated, dict):
            raise ChatError(f"{self._where}: {stated!r} in its schema is no schema.")
        for key, kind in SHAPES.items():
            value = stated.get(key)
            if value is not None and not isinstance(value, kind):
                raise ChatError(f"{self._where}: {key} in its schema is {value!r}.")
        kinds = stated.get("type")
        if isinstance(kinds, list) and not all(isinstance(k, str) for k in kinds):
            raise ChatError(f"{self._where}: type in its schema is {kinds!r}.")
        # What a value may be is the one place where null says something.
        return {k: v for k, v in stated.items() if v is not None or k == "const"}

    def _at(self, ref: str) -> Schema:
        found: Any = self._root
        start, *keys = ref.split("/")
        for key in keys:
            key = key.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, dict) else None
        if start != "#" or not isinstance(found, dict):
            raise ChatError(f"{self._where}: there is no {ref} in its schema.")
        return found

    def _united(self, schema: Schema, refs: tuple[str, ...], place: str) -> Schema:
        """Without allOf, anyOf and oneOf, whose parts become one schema."""
        parts = schema.pop("allOf", None) or ()
        united = [self._united(*self._followed(part, refs), place) for part in parts]
        schema = reduce(_merged, [*united, schema])
        for key in ("anyOf", "oneOf"):
            options = schema.pop(key, None) or []
            found = [self._united(*self._followed(o, refs), place) for o in options]
            values = [o for o in found if o.get("type") != "null"]
            if len(values) < len(found):
                schema["nullable"] = True
            if len(values) == 1:
                schema = {**values[0], **schema}
            elif values:
                schema = {**_either(values), **schema, **_told(schema, values)}
        return schema


def _merged(first: Schema, second: Schema) -> Schema:
    """Both at once; the second has the last word where they cannot both hold."""
    both = {**first, **second}
    if "properties" in first and "properties" in second:
        both["properties"] = {**first["properties"], **second["properties"]}
    if "required" in first and "required" in second:
        both["required"] = [*first["required"], *second["required"]]
    return both


def _either(options: list[Schema]) -> Schema:
    """The types of several options."""
    kinds: list[str] = []
    for option in options:
        kind = option.get("type", ANYTHING)
        kinds += kind if isinstance(kind, list) else [kind]
    kinds = list(dict.fromkeys(kinds))
    return {"type": kinds[0] if len(kinds) == 1 else kinds}


def _told(schema: Schema, options: list[Schema]) -> Schema:
    """The description, with the options in it if they are more than their types."""
    if all(option.keys() <= {"type", "title"} for option in options):
        return {}
    text = " or ".join(json.dumps(option, ensure_ascii=False) for option in options)
    return {"description": _added(schema, f"Either {text}.")}


def _take_null(schema: Schema) -> None:
    """A list of a type and null becomes the type, and nullable, where templates would
    write nothing but the types of it."""
    kinds = schema.get("type")
    if not schema.keys() & {"enum", "properties", "items"}:
        return
    if isinstance(kinds, list) and "null" in kinds and len(kinds) > 1:
        kinds = [kind for kind in kinds if kind != "null"]
        schema |= {"type": kinds[0] if len(kinds) == 1 else kinds, "nullable": True}


def _choices(schema: Schema) -> None:
    """Choices that are no texts go into the description."""
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if (choices := schema.get("enum")) is None:
        return
    if None in choices:
        choices = [choice for choice in choices if choice is not None]
        schema |= {"enum": choices, "nullable": True}
    if all(isinstance(choice, str) for choice in choices):
        schema.setdefault("type", "string")
        return
    kinds = list(dict.fromkeys(NAMES.get(type(c), "object") for c in choices))
    schema.setdefault("type", kinds[0] if len(kinds) == 1 else kinds)
    listed = ", ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
    schema["description"] = _added(schema, f"One of {listed}.")
    del schema["enum"]


def _added(schema: Schema, text: str) -> str:
    said = str(schema.get("description") or "").strip()
    if said and said[-1] not in ".!?":
        said += "."
    return f"{said} {text}".strip()
