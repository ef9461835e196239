"""Where the kernels that `auto` keeps are chosen: in commands, and in `load`."""

from pathlib import Path

import mlx.core as mx
import pytest
import tiny
from command import Runner

from mlx_gemma4.bench import auto
from mlx_gemma4.checkpoint.load import KernelsWarning, load
from mlx_gemma4.cli.loading import choose_kernels
from mlx_gemma4.cli.render import Screen
from mlx_gemma4.model import Gemma4


def test_a_command_notes_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def settle(model: Gemma4, note: auto.Note, progress: auto.Progress) -> None:
        progress("kernels off", 0)
        note("Measured.")

    monkeypatch.setattr(auto, "settle", settle)
    choose_kernels(tiny.build("untied"), Screen())
    assert capsys.readouterr() == ("", "Measured.\n")


def test_auto_from_the_command_line(gemma4: Runner) -> None:
    gemma4.environ["GEMMA4_KERNELS"] = "auto"
    done = gemma4("chat", "-m", "demo", "--max-tokens", "2", "Hello")
    assert done.returncode == 0 and done.stdout
    file = Path(gemma4.environ["XDG_STATE_HOME"]) / "gemma4" / "kernels.json"
    measured = mx.metal.is_available()
    assert ("measuring each kernel" in done.stderr) == file.exists() == measured


def test_loading_warns_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "settle", lambda model, note: note("Measured."))
    with pytest.warns(KernelsWarning, match=r"Measured\."):
        load("demo")
