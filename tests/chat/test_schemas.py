"""Schemas of tools: what templates have words for is brought into them, or said."""

from typing import Any

import pytest
from google_templates import google_template

from mlx_gemma4.chat.template import ChatTemplate
from mlx_gemma4.chat.tools import ToolWarning, plain_tools
from mlx_gemma4.errors import ChatError

HI = [{"role": "user", "content": "Hi"}]
ANY = ["string", "number", "boolean", "object", "array"]
DEFS = {"Unit": {"type": "string", "enum": ["C", "F"], "description": "Scale."}}


def said(schema: dict[str, Any], **root: Any) -> dict[str, Any]:
    """What becomes of the schema of one parameter."""
    parameters = {"type": "object", "properties": {"x": schema}, **root}
    (tool,) = plain_tools([{"name": "f", "parameters": parameters}])
    return tool["function"]["parameters"]["properties"]["x"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "description": "A city.", "enum": ["a", "b"]},
        {"type": "integer", "nullable": True},
        {"type": ["string", "integer"]},
        {"type": ["string", "null"]},
        {"type": "array", "items": {"type": "integer", "enum": [1, 2], "minimum": 0}},
        {
            "type": "object",
            "properties": {"y": {"type": "number"}},
            "required": ["y"],
            "title": "T",
            "additionalProperties": False,
        },
    ],
)
def test_what_can_be_said_stays_as_it_is(schema: dict[str, Any]):
    assert said(schema) == schema


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (
            {"type": ["string", "null"], "enum": ["a"]},
            {"type": "string", "nullable": True, "enum": ["a"]},
        ),
        (
            {"anyOf": [{"type": "integer"}, {"type": "null"}], "description": "N."},
            {"type": "integer", "nullable": True, "description": "N."},
        ),
        (
            {"oneOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
            {"type": ["string", "integer"], "nullable": True},
        ),
        (
            {"anyOf": [{"type": "string", "enum": ["all"]}, {"type": "integer"}]},
            {
                "type": ["string", "integer"],
                "description": 'Either {"type": "string", "enum": ["all"]} or '
                '{"type": "integer"}.',
            },
        ),
        ({"$ref": "#/$defs/Unit"}, DEFS["Unit"]),
        (
            {"$ref": "#/$defs/Unit", "description": "Mine."},
            {**DEFS["Unit"], "description": "Mine."},
        ),
        (
            {"anyOf": [{"$ref": "#/$defs/Unit"}, {"type": "null"}]},
            {**DEFS["Unit"], "nullable": True},
        ),
        (
            {
                "allOf": [
                    {"properties": {"a": {"type": "string"}}, "required": ["a"]},
                    {"properties": {"b": {"type": "string"}}, "required": ["b"]},
                ]
            },
            {
                "type": "object",
                "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "required": ["a", "b"],
            },
        ),
        (
            {"type": "integer", "enum": [1, 2], "description": "Rooms"},
            {"type": "integer", "description": "Rooms. One of 1, 2."},
        ),
        (
            {"enum": ["a", None]},
            {"enum": ["a"], "type": "string", "nullable": True},
        ),
        ({"const": "a"}, {"enum": ["a"], "type": "string"}),
        ({"const": 3}, {"type": "integer", "description": "One of 3."}),
        ({"description": None, "type": "string"}, {"type": "string"}),
        ({}, {"type": ANY}),
        (True, {"type": ANY}),
        (
            {"type": "array", "items": {"$ref": "#/$defs/Unit"}},
            {"type": "array", "items": DEFS["Unit"]},
        ),
    ],
)
def test_what_is_brought_into_the_template_s_words(schema: Any, expected: Any):
    assert said(schema, **{"$defs": DEFS}) == expected


def test_what_cannot_be_said_is_named_once():
    tools = [
        {
            "name": "f",
            "parameters": {
                "properties": {
                    "a": {"type": "integer", "minimum": 1, "default": 2},
                    "b": {
                        "type": "object",
                        "properties": {"c": {"type": "string", "default": "x"}},
                    },
                }
            },
        },
        {"name": "g", "parameters": {"minProperties": 1, "properties": {}}},
    ]
    with pytest.warns(ToolWarning) as caught:
        plain_tools(tools)
    assert [str(warning.message) for warning in caught] == [
        "The chat template has no words for minimum (of f.a), default (of f.a, "
        "f.b.c), minProperties (of g) in the schemas of the tools: say it in their "
        "descriptions."
    ]


@pytest.mark.parametrize("key", ["inputSchema", "input_schema"])
def test_the_shapes_of_other_protocols(key: str):
    schema = {"type": "object", "properties": {"x": {"type": "string"}}}
    (tool,) = plain_tools([{"name": "f", "description": None, key: schema}])
    assert tool["function"] == {"name": "f", "parameters": schema}
    with pytest.raises(ChatError, match=f"has both 'parameters' and '{key}'"):
        plain_tools([{"name": "f", "parameters": {}, key: schema}])


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"$ref": "#/$defs/Tree"}, "#/.defs/Tree refers to itself"),
        ({"$ref": "#/nowhere"}, "there is no #/nowhere"),
        ({"$ref": "https://example.com/x.json"}, "there is no https://example.com"),
    ],
)
def test_references_that_lead_nowhere(schema: dict[str, Any], message: str):
    tree = {"type": "object", "properties": {"below": {"$ref": "#/$defs/Tree"}}}
    with pytest.raises(ChatError, match=message):
        said(schema, **{"$defs": {"Tree": tree}})


def twice(levels: int) -> dict[str, Any]:
    """Definitions, each of which holds the next one twice."""
    defs: dict[str, Any] = {f"D{levels}": {"type": "string"}}
    for level in range(levels):
        both = {name: {"$ref": f"#/$defs/D{level + 1}"} for name in "ab"}
        defs[f"D{level}"] = {"type": "object", "properties": both}
    return defs


def test_references_that_grow_without_measure():
    assert said({"$ref": "#/$defs/D0"}, **{"$defs": twice(6)})["type"] == "object"
    with pytest.raises(ChatError, match="has more than 3000 parts"):
        said({"$ref": "#/$defs/D0"}, **{"$defs": twice(18)})


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": [1]},
        {"allOf": True},
        {"anyOf": [{"type": [["a"]]}, {"type": "b"}]},
        {"type": 3},
        {"enum": "a"},
        {"description": 3},
        {"$ref": 3},
        {"properties": {"a": "string"}},
    ],
    ids=str,
)
def test_what_is_no_schema_is_named(schema: dict[str, Any]):
    with pytest.raises(ChatError, match=r"tools\[0\]: .* (in its schema is|no schema)"):
        said(schema)


def test_null_in_a_schema_says_nothing():
    schema = {"allOf": [{"properties": None}, {"properties": {"a": {"type": "null"}}}]}
    assert said({**schema, "enum": None, "description": None}) == {
        "type": "object",
        "properties": {"a": {"type": "null"}},
    }


@pytest.mark.parametrize("size", ["small", "large"])
def test_google_s_templates_write_all_of_it(size: str):
    template = ChatTemplate(google_template(size), "<bos>")
    properties = {
        "unit": {"anyOf": [{"$ref": "#/$defs/Unit"}, {"type": "null"}]},
        "rooms": {"enum": [1, 2]},
        "any": {},
    }
    schema = {"type": "object", "properties": properties, "$defs": DEFS}
    text = template.render(HI, [{"name": "f", "inputSchema": schema}]).text
    assert "None" not in text and "[]" not in text
    assert (
        'unit:{description:<|"|>Scale.<|"|>,enum:[<|"|>C<|"|>,<|"|>F<|"|>],'
        'nullable:true,type:<|"|>STRING<|"|>}' in text
    )
    assert 'rooms:{description:<|"|>One of 1, 2.<|"|>,type:<|"|>INTEGER<|"|>}' in text
