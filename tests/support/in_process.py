"""Runs `gemma4` in this process: quicker than in one of its own, as command.py does."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mlx_gemma4.cli.app import run


class Command:
    """`out` and `err` are what the last run printed."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._set, self._read = monkeypatch.setattr, capsys.readouterr

    def __call__(self, *words: str | Path) -> int:
        """The exit code."""
        self._set(sys, "argv", ["gemma4", *map(str, words)])
        code = run(as_json="--json" in words)
        self.out, self.err = self._read()
        return code

    def json(self, *words: str | Path) -> Any:
        """All that is printed, where all went well."""
        assert self(*words, "--json") == 0, self.err
        return json.loads(self.out)
