"""Declarations of servers, in what templates have words for."""

from typing import Any

import pytest

from mlx_gemma4.chat.tools import plain_tools
from mlx_gemma4.errors import ChatError
from mlx_gemma4.tools.foreign import declaration

# As servers made with zod, pydantic and by hand write them.
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "title": "fetchArguments",
    "additionalProperties": False,
    "minProperties": 1,
    "properties": {
        "url": {"type": "string", "format": "uri", "description": "What to fetch"},
        "length": {
            "anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "null"}],
            "default": None,
            "title": "Length",
        },
        "level": {"type": "integer", "minimum": 1, "maximum": 3, "default": 2},
        "page": {"$ref": "#/$defs/Page"},
    },
    "required": ["url"],
    "$defs": {
        "Page": {
            "type": "object",
            "properties": {"at": {"type": "string", "pattern": "^[a-z]+$"}},
        }
    },
}


def test_what_templates_lack_is_said_in_words() -> None:
    """Where the tests run, the warning of what is not said would be an error."""
    plain = declaration("fetch", "Fetches.", SCHEMA)
    assert plain["function"]["description"] == "Fetches.\n(minProperties 1)"
    assert plain["function"]["parameters"]["properties"] == {
        "url": {"type": "string", "description": 'What to fetch (format "uri")'},
        "length": {
            "type": "integer",
            "nullable": True,
            "description": "(more than 0)",
        },
        "level": {
            "type": "integer",
            "description": "(at least 1; at most 3; default 2)",
        },
        "page": {
            "type": "object",
            "properties": {
                "at": {"type": "string", "description": '(pattern "^[a-z]+$")'}
            },
        },
    }
    assert plain_tools([plain]) == [plain]


def test_the_smallest_declaration() -> None:
    plain = declaration("ping", "", {"type": "object"})
    assert plain["function"]["name"] == "ping"
    assert plain["function"]["description"] == ""


def test_a_schema_without_an_end_is_refused() -> None:
    schema = {"properties": {"a": {"$ref": "#"}}, "type": "object"}
    with pytest.raises(ChatError, match="refers to itself"):
        declaration("loop", "", schema)
