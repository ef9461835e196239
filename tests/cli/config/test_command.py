"""`gemma4 config`: what is set and where, and changing it."""

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Runner, Terminal
from typing_in import Typed

from mlx_gemma4.cli.config.command import TEMPLATE


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("GEMMA4_PROMPT_CACHE")
    monkeypatch.delenv("GEMMA4_MODEL", raising=False)
    path = tmp_path / "gemma4" / "config.toml"
    path.parent.mkdir()
    path.write_text(TEXT)
    return path


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    return Typed(monkeypatch, capsys)


TEXT = """\
model = "demo"
stop = ["a", "ü"]
[chat]
think = true
[preset."for me"]
system = '''
Two
lines'''
"""


def test_show_prints_what_is_set(file: Path, typed: Typed) -> None:
    assert (
        typed("config show")
        == typed("config")
        == (
            0,
            'model = "demo"\nstop = ["a", "ü"]\nchat.think = true\n'
            'preset."for me".system = "Two\\nlines"\n',
            "",
        )
    )


def test_show_says_where_it_comes_from(
    file: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMMA4_MODEL", "./mine")
    _, out, _ = typed("config show --origin")
    first, second, third, *_ = [line.split("  # ") for line in out.splitlines()]
    assert [first[0].rstrip(), second[0].rstrip()] == [
        'model = "./mine"',
        'model = "demo"',
    ]
    assert first[1] == "GEMMA4_MODEL in the environment"
    assert second[1] == "config.toml, line 1 (not used: GEMMA4_MODEL is set)"
    assert third[1] == "config.toml, line 2"
    assert out.endswith("  # config.toml, line 6\n")
    assert typed("config show")[1].startswith('model = "./mine"\nstop')


def test_show_as_json(file: Path, typed: Typed) -> None:
    shown = json.loads(typed("config show --json")[1])
    assert shown["file"] == str(file)
    assert shown["settings"][2] == {
        "key": "chat.think",
        "value": True,
        "origin": "config.toml, line 4",
        "used": True,
    }


def test_the_model_that_is_remembered(file: Path, typed: Typed) -> None:
    kept = file.parent.parent / "state" / "gemma4" / "default"
    kept.parent.mkdir(parents=True)
    kept.write_text("e4b:8bit\n")
    assert "e4b" not in typed("config show")[1]
    file.unlink()
    assert typed("config show --origin")[1] == 'model = "e4b:8bit"  # gemma4 default\n'


def test_a_default_that_does_not_count(file: Path, typed: Typed) -> None:
    _, _, err = typed("default demo")
    assert err == f"{file} names a model and comes first: demo.\n"


def test_nothing_is_set(file: Path, typed: Typed) -> None:
    file.unlink()
    said = "Nothing is set. gemma4 config edit sets something.\n"
    assert typed("config show") == (0, "", said)
    assert typed("config path") == (0, f"{file}\n", "")


def test_a_mistake_stops_show_and_not_path(file: Path, typed: Typed) -> None:
    file.write_text("sed = 3\n")
    code, out, err = typed("config show")
    assert (code, out) == (2, "") and "line 1: there is no setting 'sed'" in err
    assert typed("config path")[0] == 0


def test_the_template_is_right(file: Path, typed: Typed) -> None:
    _, _, settings = TEMPLATE.partition("#\n")
    file.write_text(re.sub("^# ?", "", settings, flags=re.MULTILINE))
    code, out, err = typed("config show")
    assert (code, err) == (0, "") and "preset.coder.system" in out
    file.write_text(TEMPLATE)
    assert typed("config show")[:2] == (0, "")


def test_edit_needs_a_terminal(file: Path, typed: Typed) -> None:
    code, _, err = typed("config edit")
    assert code == 2 and str(file) in err


@pytest.mark.slow
def test_edit_opens_the_editor_and_checks(
    gemma4: Runner, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    change = "import sys; open(sys.argv[1], 'a').write('\\nsed = 3\\n')"
    gemma4.environ["VISUAL"] = shlex.join([sys.executable, "-c", change])
    screen = terminal("config", "edit")
    assert screen.finish() == 2
    file = tmp_path / "config" / "gemma4" / "config.toml"
    assert file.read_text().startswith("# Settings of gemma4")
    assert "there is no setting 'sed'" in screen.text
    for editor, said in (("false", "failed (1)"), ("no-such", "does not start")):
        gemma4.environ["VISUAL"] = editor
        screen = terminal("config", "edit")
        assert screen.finish() == 2 and said in screen.text
