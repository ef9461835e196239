"""Runs the command in this process, as if its words had been typed."""

import shlex
import sys

import pytest

from mlx_gemma4.cli.app import run


class Typed:
    """What a command printed and returned."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def __call__(self, words: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        self.monkeypatch.setattr(sys, "argv", ["gemma4", *shlex.split(words)])
        code = run(as_json="--json" in words)
        out, err = self.capsys.readouterr()
        return code, out, err
