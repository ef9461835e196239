"""Schemas in a line, as JSON, and what is neither."""

import pytest

from mlx_gemma4.errors import ChatError
from mlx_gemma4.forms.schema import schema_of


def test_a_line_of_fields() -> None:
    assert schema_of("name, age int, tags str[]: what it is about, note? string") == {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer"},
            "tags": {
                "type": "array",
                "items": {"type": "string"},
                "description": "what it is about",
            },
            "note": {"type": "string"},
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": False,
    }
    assert schema_of("name\nis_new bool,\n") == schema_of("name, is_new bool")


def test_what_fields_on_lines_of_their_own_mean() -> None:
    found = schema_of("name, mood: happy, sad: or else\nage int")
    assert isinstance(found, dict) and found["required"] == ["name", "mood", "age"]
    assert found["properties"]["mood"]["description"] == "happy, sad: or else"


def test_json_and_what_is_a_schema_already() -> None:
    assert schema_of(' {"type": "null"}') == {"type": "null"}
    assert schema_of({"type": "null"}) == {"type": "null"}
    assert schema_of("true") == schema_of(True) == {}
    fields = {"properties": {"a": {}}}
    assert schema_of(fields) == {"type": "object", **fields}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "The schema is empty"),
        ("false", "The schema is false"),
        (" , ", "The schema is empty"),
        ("name, age years", "'age years' is no field of a schema"),
        ("first name here", "is no field"),
        ("a, a int", "names 'a' twice"),
        ('{"type": ', "not usable JSON"),
        ("[" * 3, "is no field"),
        ("{" * 100_000, "not usable JSON"),
    ],
)
def test_what_is_none(text: str, said: str) -> None:
    with pytest.raises(ChatError, match=said):
        schema_of(text)
