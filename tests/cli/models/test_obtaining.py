"""What happens before a model is fetched or converted, and in whose hands it ends."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from holding import Shelf

from mlx_gemma4.cli.models.obtaining import obtain
from mlx_gemma4.cli.render import Screen
from mlx_gemma4.config.ple import Ple
from mlx_gemma4.errors import CheckpointError, ModelNotFoundError
from mlx_gemma4.hub.names import candidates
from mlx_gemma4.hub.resolve import converted_folder

ROOM = 10**11
Calls = list[tuple[Any, ...]]


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mlx_gemma4.device.memory_limit", lambda: ROOM)
    return Shelf.make(tmp_path, monkeypatch)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What was to be fetched or converted; nothing is."""
    asked: Calls = []

    def note(kind: str) -> Callable[..., None]:
        return lambda *words: asked.append((kind, *words))

    for name in ("fetch", "fetch_converted"):
        module = {"fetch": "fetch", "fetch_converted": "converting"}[name]
        stand_in = SimpleNamespace(**{name: note(name)})
        monkeypatch.setitem(sys.modules, f"mlx_gemma4.cli.models.{module}", stand_in)
    return asked


def test_what_is_here_is_not_fetched(shelf: Shelf, calls: Calls) -> None:
    shelf.fetched("mlx-community/gemma-4-e4b-it-8bit")
    shelf.fetched("org/name")
    screen = Screen()
    for name, exact in (
        ("demo", "demo"),
        (str(shelf.model), str(shelf.model)),
        ("org/name", "org/name"),
        ("e4b", "e4b:8bit"),
        ("mlx-community/gemma-4-e4b-it-8bit", "mlx-community/gemma-4-e4b-it-8bit"),
    ):
        assert obtain(name, screen) == exact
    assert not calls


def test_ready_weights_are_fetched(
    shelf: Shelf, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Screen()
    assert obtain("org/name@v1", screen) == "org/name@v1"
    assert capsys.readouterr().err == ""
    assert obtain("e4b", screen, yes=True) == "e4b:8bit"
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("e4b means e4b:8bit here: fetches 8.96 GB; ")
    assert said[1].startswith(
        "Or `gemma4 pull e4b:qat`: fetches 15.9 GB, keeps 5.86 GB"
    )
    assert calls == [
        ("fetch", "org/name@v1", screen, False, True, Ple.AUTO),
        ("fetch", "mlx-community/gemma-4-e4b-it-8bit", screen, True, True, Ple.AUTO),
    ]


def test_others_are_converted(shelf: Shelf, calls: Calls) -> None:
    screen = Screen()
    assert obtain("26b:qat", screen) == "26b:qat"
    (variant,) = candidates("26b:qat")
    out = converted_folder(variant)
    assert out == shelf.model.parent / "data" / "gemma4" / "models" / "26b-qat"
    how = out, "4bit", screen, False, Ple.AUTO
    assert calls == [("fetch_converted", variant.repo, *how)]


def test_a_plain_conversion_of_a_small_model_is_warned_of(
    shelf: Shelf, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    obtain("e4b:4bit", Screen())
    assert "Warning: Four bits without training" in capsys.readouterr().err
    obtain("26b:4bit", Screen())
    assert "Warning" not in capsys.readouterr().err


def test_a_tight_fit_is_warned_of(
    shelf: Shelf,
    calls: Calls,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("mlx_gemma4.device.memory_limit", lambda: 18 * 10**9)
    assert obtain("26b:qat", Screen()) == "26b:qat" and len(calls) == 1
    assert "Warning: it leaves little memory" in capsys.readouterr().err


def test_what_cannot_be_run_is_refused_before(
    shelf: Shelf, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_gemma4.device.memory_limit", lambda: 11 * 10**9)
    with pytest.raises(MemoryError, match="31b:qat takes 20.6 GB.*: take e4b:8bit."):
        obtain("31b:qat", Screen())
    assert not calls


@pytest.mark.parametrize("name", ["banana", "."])
def test_a_wrong_variable_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for value, told in ((name, "^GEMMA4_MODEL: "), ("e2b", "^(?!GEMMA4)")):
        monkeypatch.setenv("GEMMA4_MODEL", value)
        with pytest.raises((ModelNotFoundError, CheckpointError), match=told):
            obtain(name, Screen())
