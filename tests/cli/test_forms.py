"""`--schema`, `--json-object`, `--regex` and `--grammar`, on the demo model."""

import json
from pathlib import Path
from typing import Any

import pytest
from command import GREEDY
from typer.testing import CliRunner, Result

from mlx_gemma4.cli.app import app

pytest.importorskip("llguidance", reason="needs the extra: pip install .[json]")


def chat(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["chat", "-m", "demo", *GREEDY, *arguments, "Hi"])


@pytest.mark.slow
def test_a_schema_as_fields_json_and_file(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"red": {"enum": [True]}}}
    schema |= {"required": ["red"], "additionalProperties": False}
    file = tmp_path / "red.json"
    file.write_text(json.dumps(schema), encoding="utf-8")
    for given in (json.dumps(schema), str(file)):
        found = chat("--schema", given)
        assert (found.exit_code, found.stdout) == (0, '{"red":true}\n')
    found = chat("--schema", "red bool", "--json")
    assert type(json.loads(json.loads(found.stdout)["text"])["red"]) is bool


@pytest.mark.slow
def test_a_slash_in_what_a_field_means_and_json_behind_a_blank_line() -> None:
    found = chat("--schema", "red bool: on/off")
    assert (found.exit_code, type(json.loads(found.stdout)["red"])) == (0, bool)
    found = chat("--schema", '\n{"const": "a/b"}')
    assert (found.exit_code, found.stdout) == (0, '"a/b"\n')


@pytest.mark.slow
def test_a_regex_a_grammar_and_an_object(tmp_path: Path) -> None:
    (tmp_path / "g.lark").write_text('start: "yes" | "no"')
    assert chat("--regex", "yes|no").stdout in ("yes\n", "no\n")
    assert chat("--grammar", str(tmp_path / "g.lark")).stdout in ("yes\n", "no\n")
    closed = chat("--json-object", "--max-tokens", "1")
    assert isinstance(json.loads(closed.stdout), dict)
    assert closed.stderr in ("", "(brought to an end: the token limit was reached)\n")


def test_an_answer_without_its_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_gemma4.forms.guide.ROOM", 2)
    found = chat("--regex", "[a-c]{99}", "--max-tokens", "1")
    assert found.exit_code == 6
    assert "was cut before it had the form asked for" in found.stderr


@pytest.mark.slow
def test_calls_that_are_held_to_their_tools(tmp_path: Path) -> None:
    minutes = {"type": "integer", "description": "Length in minutes.", "enum": [8, 9]}
    parameters: dict[str, Any] = {"type": "object", "properties": {"minutes": minutes}}
    parameters["required"] = ["minutes"]
    timer = {"name": "set_timer", "description": "Start a timer."}
    file = tmp_path / "tools.json"
    file.write_text(json.dumps([{**timer, "parameters": parameters}]))
    asked = ["chat", "-m", "demo", *GREEDY, "--strict-tools", "--tools", str(file)]
    found = CliRunner().invoke(app, [*asked, "Set a timer for 20 minutes."])
    assert (found.exit_code, found.stderr) == (0, "")
    called = json.loads(found.stdout)
    assert called["name"] == "set_timer" and called["arguments"]["minutes"] in (8, 9)
    either = [{"type": "integer"}, {"type": "number"}]
    parameters["properties"]["minutes"] = {"oneOf": either}
    file.write_text(json.dumps([{**timer, "parameters": parameters}]))
    found = CliRunner().invoke(app, [*asked, "Hi"])
    assert found.exit_code == 2 and "held to oneOf where" in found.stderr


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--regex", "(?=a)b"], 2, "look-around, including look-ahead"),
        (["--schema", "a b c"], 2, "'a b c' is no field of a schema"),
        (["--schema", '{"not": {}}'], 2, "No answer can be held to this form"),
        (["--schema", "~no-one-here/a"], 5, "There is no file ~no-one-here/a"),
        (["--schema", "gone.json"], 5, "There is no file gone.json"),
        (["--grammar", "gone.lark"], 5, "There is no file gone.lark."),
        (["--regex", "a", "--json-object"], 2, "Choose one of --json-object and"),
        (["--regex", "a", "--schema", "a"], 2, "Give one of schema and regex"),
        (["--strict-tools"], 2, "--strict-tools is for --tool, --mcp and --tools."),
        (["--regex", "a", "--stop", "b"], 2, "stop would cut an answer of a form"),
    ],
)
def test_forms_that_are_refused(options: list[str], code: int, said: str) -> None:
    found = chat(*options)
    assert (found.exit_code, found.stdout) == (code, "")
    assert said in found.stderr
