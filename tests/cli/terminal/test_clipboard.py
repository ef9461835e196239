"""Copying, where there is a clipboard and where only the terminal has one."""

import base64
import sys
from pathlib import Path

import pytest

from mlx_gemma4.cli.errors import UsageError
from mlx_gemma4.cli.terminal.clipboard import (
    as_sequence,
    programs,
    put_on_clipboard,
    taken_by,
)

HERE = {"DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-0"}


def test_the_clipboard_is_the_one_that_the_user_sees(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert [each[0] for each in programs(HERE)] == ["wl-copy", "xclip"]
    assert [each[0] for each in programs({"DISPLAY": ":0"})] == ["xclip"]
    assert list(programs({})) == []
    monkeypatch.setattr(sys, "platform", "darwin")
    assert [each[0] for each in programs({})] == ["pbcopy"]
    for far in ("SSH_CONNECTION", "SSH_TTY"):
        assert list(programs({**HERE, far: "somewhere"})) == []


def test_a_program_gets_the_text(tmp_path: Path):
    file = tmp_path / "copied"
    assert taken_by(["tee", str(file)], "größe\n")
    assert file.read_text(encoding="utf-8") == "größe\n"
    assert not taken_by(["false"], "x")
    assert not taken_by([str(tmp_path / "missing")], "x")


def test_the_first_that_takes_it_is_named(monkeypatch, tmp_path: Path):
    names = [["nowhere-to-be-found"], ["false"], ["tee", str(tmp_path / "copied")]]
    monkeypatch.setattr(
        "mlx_gemma4.cli.terminal.clipboard.programs", lambda environ: names
    )
    assert put_on_clipboard("x") == "tee"


def test_a_terminal_is_told_in_a_sequence(monkeypatch, capsys):
    monkeypatch.setattr(
        "mlx_gemma4.cli.terminal.clipboard.programs", lambda environ: []
    )
    with pytest.raises(UsageError, match="no clipboard here"):
        put_on_clipboard("x")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert "terminal" in put_on_clipboard("größe\x07")
    start, _, coded = capsys.readouterr().out.partition("52;c;")
    assert start == "\x1b]" and coded.endswith("\x07")
    assert base64.b64decode(coded[:-1]).decode() == "größe\x07"
    assert as_sequence("a") == "\x1b]52;c;YQ==\x07"
