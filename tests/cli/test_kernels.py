"""What a command says and does about kernels on a Mac that has not checked them."""

from pathlib import Path
from shutil import copyfile

import mlx.core as mx
import pytest

from mlx_gemma4.bench import auto
from mlx_gemma4.cli import loading
from mlx_gemma4.cli.bench.command import load_checked
from mlx_gemma4.cli.models import to_chat
from mlx_gemma4.cli.render import Screen
from mlx_gemma4.config import Config
from mlx_gemma4.kernels import any_on, choice, launch
from mlx_gemma4.kernels.choice import Answer, memory_file


@pytest.fixture(autouse=True)
def mac(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """The folders that are checked. The kernel `norms` does with all."""
    checked: list[Path] = []

    def examined(prepared: auto.Prepared) -> Answer:
        checked.append(prepared.folder)
        return Answer(("norms",), {"gate": "slower: 1.20 times MLX's time"})

    monkeypatch.delenv("GEMMA4_KERNELS")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(launch, "_settled", [])
    monkeypatch.setattr(choice, "_unwritten", {})
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr("mlx_gemma4.checkpoint.load.memory_limit", lambda: 10**9)
    monkeypatch.setattr(auto.Prepared, "load", lambda self: self.plan.model)
    monkeypatch.setattr(to_chat, "memory_limit", lambda: 10**12)
    monkeypatch.setattr(auto, "examined", examined)
    return checked


def test_a_new_model_is_checked_once_and_told(
    mac: list[Path], demo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loading.open_model("demo", Screen())
    assert mac == [demo_folder] and any_on()
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert first.startswith("Checking which Metal kernels are right and not slower")
    assert second == (
        "Kernels: on: norms; left out: gate (slower: 1.20 times MLX's time)."
    )
    loading.open_model("demo", Screen())
    assert len(mac) == 1 and not out and not any(capsys.readouterr())


def test_training_neither_checks_nor_uses_them(
    mac: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    loading.open_model("demo", Screen(), kernels=False)
    assert not mac and not any_on() and not any(capsys.readouterr())


def test_a_model_without_a_chat_template_is_refused_before(
    mac: list[Path], demo_folder: Path, tmp_path: Path
) -> None:
    for file in demo_folder.iterdir():
        if file.is_file() and file.suffix != ".jinja":
            copyfile(file, tmp_path / file.name)
    with pytest.raises(ValueError, match="no chat template"):
        loading.open_model(str(tmp_path), Screen())
    assert not mac and not memory_file().exists()


def test_a_model_that_does_not_fit_is_refused_before(
    mac: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_gemma4.checkpoint.load.memory_limit", lambda: 10**3)
    with pytest.raises(MemoryError, match="may use at most"):
        loading.open_model("demo", Screen())
    assert not mac and not memory_file().exists()


def test_a_benchmark_checks_again(mac: list[Path], demo_folder: Path) -> None:
    config = Config.from_file(demo_folder / "config.json")
    for _ in range(2):
        load_checked(demo_folder, config, Screen(), "auto")
    assert mac == [demo_folder] * 2 and any_on()
