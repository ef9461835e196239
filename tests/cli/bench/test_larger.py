"""Larger command buffers in a benchmark: on a Mac that is pretended."""

from contextlib import ExitStack
from pathlib import Path

import mlx.core as mx
import pytest
import tiny

from mlx_gemma4.bench import buffers
from mlx_gemma4.bench.ours import NAME, Larger
from mlx_gemma4.bench.timing import Contender, Sample, Series, memory_needed
from mlx_gemma4.cli.bench import larger
from mlx_gemma4.cli.render import Screen
from mlx_gemma4.config.ple import Ple
from mlx_gemma4.errors import PeerError

MODEL = tiny.build("untied")
SETTINGS = {buffers.OPS: "1000", buffers.MB: "60"}


def decoded(prompt: list[int], decode: int) -> Sample:
    return Sample(1.0, 1.0, 1)


class Copy:
    """In place of the process; `fails` says so where it is started."""

    fails = ""

    def __init__(self, folder: Path, settings: buffers.Settings, *_: object):
        if self.fails:
            raise PeerError(self.fails)
        self.settings = settings

    def __enter__(self) -> "Copy":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, prompt: list[int], decode: int) -> Sample:
        return decoded(prompt, decode)


@pytest.fixture(autouse=True)
def mac(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(larger, "larger", lambda size: SETTINGS if size else None)
    monkeypatch.setattr(larger, "Larger", Copy)
    monkeypatch.setattr(larger, "memory_limit", lambda: 10**12)


def added(*names: str) -> tuple[larger.Added | None, dict[str, Contender]]:
    compared: dict[str, Contender] = dict.fromkeys(names, decoded)
    with ExitStack() as stack:
        found = larger.add_larger(
            compared, stack, Path(), MODEL, tokens=9, screen=Screen()
        )
    return found, compared


def test_they_stand_against_what_is_used() -> None:
    found, compared = added("kernels off")
    assert found == larger.Added("kernels off", SETTINGS)
    assert list(compared) == ["kernels off", NAME]
    found, compared = added("kernels off", "kernels on", "mlx-lm")
    assert found == larger.Added("kernels on", SETTINGS)
    assert list(compared)[-1] == NAME


def test_every_copy_has_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    need = memory_needed(MODEL, 9)
    monkeypatch.setattr(larger, "memory_limit", lambda: 2 * need)
    assert added("kernels off", "kernels on")[0] is not None
    assert added("kernels off", "kernels on", "mlx-lm")[0] is None
    monkeypatch.setattr(larger, "memory_limit", lambda: 3 * need)
    assert added("kernels off", "kernels on", "mlx-lm")[0] is not None


def test_one_that_does_not_start_is_left_out_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Copy, "fails", "It does not load.")
    found, compared = added("kernels off")
    assert found is None and list(compared) == ["kernels off"]
    assert "larger buffers are left out. It does not load." in capsys.readouterr().err


def test_without_metal_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    found, compared = added("mlx-gemma4")
    assert found is None and list(compared) == ["mlx-gemma4"]


def test_what_is_found_is_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    def series(name: str, seconds: float) -> Series:
        samples = (Sample(1.0, seconds, 1),) * 3
        return Series(name, 9, 5, samples[0], samples)

    rows = [series("kernels off", 3.0), series("kernels on", 2.0), series(NAME, 1.5)]
    base = larger.Added("kernels on", SETTINGS)
    larger.learn_larger("demo", base, {5: rows, 9: rows}, Screen())
    assert "are set for it from now on" in capsys.readouterr().err
    assert buffers.remembered(["gemma4", "chat", "-m", "demo"], {}) == SETTINGS
    without = {5: rows[:2], 9: rows}  # it failed at one of two contexts
    larger.learn_larger("demo", base, without, Screen())
    assert not capsys.readouterr().err


@pytest.mark.slow
def test_the_process_decodes(demo_folder: Path) -> None:
    with Larger(demo_folder, SETTINGS, Ple.DISK) as process:
        sample = process([5, 6, 7], 3)
    assert sample.decode > 0 and sample.peak > 0
