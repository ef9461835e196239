"""Declarations that others wrote, said in what chat templates have words for.

What they have none for, as a default or a limit, becomes a part of the description: the
author of a server did not write it for this model.
"""

import json
import warnings
from collections.abc import Mapping
from typing import Any

from ..chat.schemas import NOTES, SAID, Schema
from ..chat.tools import ToolWarning, plain_tools

WORDS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
}


def declaration(name: str, description: str, schema: Mapping[str, Any]) -> Schema:
    """In OpenAI's shape. Raises ChatError for a schema that no template can write."""
    stated = {"name": name, "description": description, "inputSchema": schema}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ToolWarning)
        (plain,) = plain_tools([stated])
    function = plain["function"]
    if parameters := function.get("parameters"):
        said = _said(parameters)
        if added := said.pop("description", ""):
            function["description"] = f"{description}\n{added}".strip()
        function["parameters"] = said
    return plain


def _said(schema: Schema) -> Schema:
    """Without the keys that no template writes, which its description now says."""
    said = {key: value for key, value in schema.items() if key in SAID}
    if "properties" in said:
        inside: dict[str, Schema] = said["properties"]
        said["properties"] = {name: _said(value) for name, value in inside.items()}
    left = {k: v for k, v in schema.items() if k not in SAID and not _is_note(k, v)}
    if left:
        words = "; ".join(f"{WORDS.get(k, k)} {_text(v)}" for k, v in left.items())
        text = str(said.get("description", "")).strip()
        said["description"] = f"{text} ({words})".strip()
    return said


def _is_note(key: str, value: object) -> bool:
    return key in NOTES and (key in ("$defs", "definitions") or type(value) is not dict)


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
