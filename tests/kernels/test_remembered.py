"""`GEMMA4_KERNELS=auto`: what is recalled, under which conditions, and what is said."""

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import mlx.core as mx
import pytest
import tiny
from command import Runner

from mlx_gemma4.checkpoint.load import KernelsWarning, load
from mlx_gemma4.kernels import NAMES, enabled, launch, using
from mlx_gemma4.kernels.choice import Conditions, memory_file, remember, use_remembered
from mlx_gemma4.model import Gemma4

FIRST, SECOND, *_ = NAMES


class Machine:
    """A Mac where `auto` is set, and what is noted on it."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def remember(self, model: Gemma4, *names: str) -> None:
        remember(conditions(model), names, self.notes.append)

    def use(self, model: Gemma4) -> list[str]:
        """The kernels that are then on."""
        self.notes.clear()
        use_remembered(model, model.config.text_config, self.notes.append)
        return [name for name in NAMES if enabled(name)]


def conditions(model: Gemma4) -> Conditions:
    return Conditions.of(model, model.config.text_config)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    monkeypatch.setenv("GEMMA4_KERNELS", "auto")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(launch, "_settled", [])
    launch._from_environment.cache_clear()
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    return Machine()


def test_what_is_remembered_is_used(machine: Machine) -> None:
    model = tiny.build("untied")
    assert not any(enabled(name) for name in NAMES)
    machine.remember(model, SECOND)
    assert machine.notes == [
        f"Remembered for GEMMA4_KERNELS=auto: faster here: {SECOND}."
    ]
    assert machine.use(model) == [SECOND] and not machine.notes
    assert [path.name for path in memory_file().parent.iterdir()] == ["kernels.json"]
    machine.remember(model)
    assert machine.notes == [
        "Remembered for GEMMA4_KERNELS=auto: no kernel is faster here."
    ]
    assert machine.use(model) == [] and not machine.notes


def test_nothing_remembered_is_said_and_no_kernel_used(machine: Machine) -> None:
    model = tiny.build("untied")
    machine.remember(model, SECOND)
    assert machine.use(model) == [SECOND]
    assert machine.use(tiny.build("untied", sliding_window=16)) == []
    (note,) = machine.notes
    assert "no kernel is used" in note and "`gemma4 bench -m MODEL`" in note


def test_using_wins_over_what_is_remembered(machine: Machine) -> None:
    model = tiny.build("untied")
    machine.remember(model, SECOND)
    machine.use(model)
    with using(FIRST):
        assert enabled(FIRST) and not enabled(SECOND)
    assert enabled(SECOND) and not enabled(FIRST)


@pytest.mark.parametrize(
    ("setting", "metal"), [("auto", False), ("off", True), ("", True), (FIRST, True)]
)
def test_nothing_is_recalled_unasked_or_without_metal(
    setting: str, metal: bool, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.build("untied")
    machine.remember(model, SECOND)
    monkeypatch.setenv("GEMMA4_KERNELS", setting)
    monkeypatch.setattr(mx.metal, "is_available", lambda: metal)
    assert machine.use(model) == ([FIRST] if setting == FIRST else [])
    assert not machine.notes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        '{"answers": 1}',
        '{"answers": [{"place": {}}]}',
        '{"answers": [{"place": {}, "faster": [1]}]}',
        '{"answers": [{"place": 1, "faster": []}]}',
    ],
)
def test_a_damaged_file_is_said_and_written_again(machine: Machine, text: str) -> None:
    model = tiny.build("untied")
    memory_file().parent.mkdir()
    memory_file().write_text(text)
    assert machine.use(model) == []
    damaged, _ = machine.notes
    assert "kernels.json is damaged" in damaged
    machine.remember(model, SECOND)
    (entry,) = json.loads(memory_file().read_text())["answers"]
    assert entry["faster"] == [SECOND]


def test_an_answer_that_names_no_kernel_is_not_known(machine: Machine) -> None:
    model = tiny.build("untied")
    machine.remember(model, SECOND)
    file = memory_file()
    file.write_text(file.read_text().replace(f'"{SECOND}"\n   ]', '"none such"\n   ]'))
    assert "none such" in file.read_text()
    assert machine.use(model) == [] and "no kernel is used" in machine.notes[0]
    machine.remember(model, SECOND)
    assert "none such" not in file.read_text()


def test_bytes_that_are_no_text(machine: Machine) -> None:
    memory_file().parent.mkdir()
    memory_file().write_bytes(b"\xff\xfe\x00")
    assert machine.use(tiny.build("untied")) == []
    assert "is damaged" in machine.notes[0]


def test_a_file_that_cannot_be_read(machine: Machine) -> None:
    memory_file().mkdir(parents=True)
    assert machine.use(tiny.build("untied")) == []
    assert "cannot be read" in machine.notes[0]


def test_a_folder_that_cannot_be_written(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    machine.remember(tiny.build("untied"), SECOND)
    assert any("is not remembered" in note for note in machine.notes)


def test_another_shape_packing_chip_or_version_is_not_known(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.build("untied")
    machine.remember(model, SECOND)
    assert machine.use(tiny.build("untied", seed=1)) == [SECOND]  # other values only
    for other in (tiny.build("untied", sliding_window=16), model):
        other.set_dtype(mx.bfloat16)
        assert machine.use(other) == []
        machine.remember(other, SECOND)
        assert machine.use(other) == [SECOND]
    assert len(answers()) == 3
    monkeypatch.setattr("importlib.metadata.version", lambda package: "9")
    assert machine.use(model) == []
    machine.remember(model, FIRST)
    versions = [entry["place"]["mlx_gemma4"] for entry in answers()]
    assert len(versions) == 3 and versions.count("9") == 1  # in place of the older
    monkeypatch.setattr(mx, "device_info", lambda: {"device_name": "Apple M9"})
    assert machine.use(model) == []
    machine.remember(model, FIRST)
    assert len(answers()) == 4
    monkeypatch.setattr(launch, "NAMES", NAMES[:2])
    assert machine.use(model) == []


def answers() -> list[dict[str, dict[str, str]]]:
    return json.loads(memory_file().read_text())["answers"]


def test_a_checkout_that_is_not_installed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("importlib.metadata.version", absent)
    model = tiny.build("untied")
    machine.remember(model, FIRST)
    assert machine.use(model) == [FIRST]


def test_loading_warns_and_measures_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_gemma4.checkpoint.load.memory_limit", lambda: 10**9)
    with pytest.warns(KernelsWarning, match="gemma4 bench"):
        model, _ = load("demo")
    assert not memory_file().exists()
    machine.remember(model, SECOND)
    load("demo")  # warnings are errors
    assert enabled(SECOND)


@pytest.mark.slow
def test_the_command_line_notes_it(gemma4: Runner) -> None:
    gemma4.environ["GEMMA4_KERNELS"] = "auto"
    done = gemma4("chat", "-m", "demo", "--max-tokens", "2", "Hello")
    assert done.returncode == 0 and done.stdout
    file = Path(gemma4.environ["XDG_STATE_HOME"]) / "gemma4" / "kernels.json"
    assert ("`gemma4 bench" in done.stderr) == mx.metal.is_available()
    assert not file.exists()
