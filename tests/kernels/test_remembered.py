"""`GEMMA4_KERNELS=auto`: what is recalled, under which conditions, and what is said."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest
import tiny

from mlx_gemma4.checkpoint.load import (
    KernelsWarning,
    Prepared,
    load,
    prepare_model,
    recall_kernels,
)
from mlx_gemma4.checkpoint.packing import Packing
from mlx_gemma4.config import TextConfig
from mlx_gemma4.kernels import NAMES, choice, enabled, launch, using
from mlx_gemma4.kernels.choice import (
    Answer,
    Conditions,
    memory_file,
    recall,
    remember,
    use_remembered,
)

FIRST, SECOND, *_ = NAMES
TEXT = tiny.build("untied").config.text_config
OTHER = replace(TEXT, sliding_window=16)
PACKED = {"language_model.layers.0.mlp.up_proj": Packing(4, 64, "affine")}


def conditions(
    text: TextConfig = TEXT,
    packings: dict[str, Packing] = PACKED,
    dtype: mx.Dtype = mx.float32,
) -> Conditions:
    return Conditions.of(text, packings, dtype)


class Machine:
    """A Mac, and what is noted on it."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def remember(self, here: Conditions, *uses: str) -> None:
        remember(here, Answer(uses, {"router": "slower"}), self.notes.append)

    def use(self, here: Conditions) -> list[str]:
        """The kernels that are then on."""
        self.notes.clear()
        use_remembered(here, self.notes.append)
        return [name for name in NAMES if enabled(name)]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Machine]:
    monkeypatch.delenv("GEMMA4_KERNELS", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(launch, "_settled", [])
    monkeypatch.setattr(choice, "_unwritten", {})
    launch._from_environment.cache_clear()
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    yield Machine()
    launch._from_environment.cache_clear()


def test_what_is_remembered_is_used(machine: Machine) -> None:
    assert not any(enabled(name) for name in NAMES)
    machine.remember(conditions(), SECOND, "dense 640x96")
    assert machine.use(conditions()) == [SECOND, "dense"] and not machine.notes
    assert enabled("dense", "640x96") and not enabled("dense", "96x640")
    answer = recall(conditions(), pytest.fail)
    assert answer == Answer((SECOND, "dense 640x96"), {"router": "slower"})
    assert answer and answer.text == f"on: {SECOND}, dense; left out: router (slower)"
    assert [path.name for path in memory_file().parent.iterdir()] == ["kernels.json"]
    machine.remember(conditions())
    assert machine.use(conditions()) == [] and not machine.notes


def test_an_answer_in_words() -> None:
    out = {"router": "slower", "dense 64x96": "wrong", "gate": "slower"}
    assert Answer((), out).text == (
        "none is on; left out: router, gate (slower); dense 64x96 (wrong)"
    )
    assert Answer(("norms", "heads 8d", "heads 16d")).text == "on: norms, heads"


def test_nothing_remembered_is_quiet_but_where_auto_was_asked_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.remember(conditions(), SECOND)
    assert machine.use(conditions()) == [SECOND]
    assert machine.use(conditions(OTHER)) == [] and not machine.notes
    monkeypatch.setenv("GEMMA4_KERNELS", "auto")
    assert machine.use(conditions(OTHER)) == []
    (note,) = machine.notes
    assert "no kernel is used" in note and "check_kernels(MODEL)" in note


def test_using_wins_over_what_is_remembered(machine: Machine) -> None:
    machine.remember(conditions(), SECOND)
    machine.use(conditions())
    with using(FIRST):
        assert enabled(FIRST) and not enabled(SECOND)
    assert enabled(SECOND) and not enabled(FIRST)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        '{"answers": 1}',
        '{"answers": [{"place": {}}]}',
        '{"answers": [{"place": {}, "out": {}, "uses": [1]}]}',
        '{"answers": [{"place": {}, "out": 1, "uses": []}]}',
        '{"answers": [{"place": {}, "out": {"norms": []}, "uses": []}]}',
        '{"answers": [{"place": 1, "out": {}, "uses": []}]}',
        '{"answers": [{"place": {}, "faster": ["norms"]}]}',
    ],
)
def test_a_damaged_file_is_said_and_written_again(machine: Machine, text: str) -> None:
    memory_file().parent.mkdir()
    memory_file().write_text(text)
    assert machine.use(conditions()) == []
    (damaged,) = machine.notes
    assert "kernels.json is damaged" in damaged
    machine.remember(conditions(), SECOND)
    (entry,) = json.loads(memory_file().read_text())["answers"]
    assert entry["uses"] == [SECOND]


def test_bytes_that_are_no_text(machine: Machine) -> None:
    memory_file().parent.mkdir()
    memory_file().write_bytes(b"\xff\xfe\x00")
    assert machine.use(conditions()) == []
    assert "is damaged" in machine.notes[0]


def test_a_file_that_cannot_be_read(machine: Machine) -> None:
    memory_file().mkdir(parents=True)
    assert machine.use(conditions()) == []
    assert "cannot be read" in machine.notes[0]


def test_a_folder_that_cannot_be_written(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    machine.remember(conditions(), SECOND)
    assert any("is not remembered" in note for note in machine.notes)


@pytest.mark.parametrize(
    "other",
    [
        lambda: conditions(OTHER),
        lambda: conditions(dtype=mx.bfloat16),
        lambda: conditions(packings={}),
        lambda: conditions(packings=dict.fromkeys(PACKED, Packing(8, 64, "affine"))),
    ],
)
def test_another_kind_of_model_is_not_known(
    machine: Machine, other: Callable[[], Conditions]
) -> None:
    machine.remember(conditions(), SECOND)
    assert machine.use(other()) == []
    machine.remember(other(), FIRST)
    assert machine.use(other()) == [FIRST] and machine.use(conditions()) == [SECOND]


def test_towers_make_no_other_kind(machine: Machine) -> None:
    machine.remember(conditions(), SECOND)
    seeing = {**PACKED, "vision_tower.x": Packing(8, 64, "affine")}
    assert machine.use(conditions(packings=seeing)) == [SECOND]


@pytest.mark.parametrize("changed", ["chip", "system", "mlx", "kernels"])
def test_another_machine_or_version_is_not_known(
    machine: Machine, changed: str
) -> None:
    here = conditions()
    machine.remember(here, SECOND)
    there = replace(here, **{changed: "another"})
    assert machine.use(there) == []
    machine.remember(there, FIRST)
    # Two chips may share a home; of versions the last is kept.
    assert machine.use(here) == ([SECOND] if changed == "chip" else [])


def test_conditions_tell_the_machine_and_the_text_of_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = conditions()
    assert all(vars(here).values())
    monkeypatch.setattr(mx, "device_info", lambda: {"device_name": "Apple M9"})
    assert conditions() == replace(here, chip="Apple M9")


def test_loading_recalls_and_measures_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, demo_folder: Path
) -> None:
    monkeypatch.setattr(Prepared, "load", lambda self: self.plan.model)
    load("demo", draft="off")  # warnings are errors
    assert not memory_file().exists() and not enabled(SECOND)
    machine.remember(prepare_model(demo_folder).conditions, SECOND)
    load("demo", draft="off")
    assert enabled(SECOND)


def test_what_loading_warns_of(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, demo_folder: Path
) -> None:
    prepared = prepare_model(demo_folder)
    recall_kernels(prepared)  # warnings are errors
    monkeypatch.setenv("GEMMA4_KERNELS", "auto")
    with pytest.warns(KernelsWarning, match="check_kernels"):
        recall_kernels(prepared)


@pytest.mark.parametrize("setting", ["off", FIRST])
def test_nothing_is_recalled_unasked(
    setting: str,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    demo_folder: Path,
) -> None:
    monkeypatch.setenv("GEMMA4_KERNELS", setting)
    prepared = prepare_model(demo_folder)
    machine.remember(prepared.conditions, SECOND)
    recall_kernels(prepared)
    assert enabled(FIRST) == (setting == FIRST) and not enabled(SECOND)
