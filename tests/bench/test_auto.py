"""Which kernels `auto` keeps, when it measures, and what it remembers. No clock runs:
seconds are given."""

import json
import math
from pathlib import Path

import mlx.core as mx
import pytest
import tiny

import mlx_gemma4
from mlx_gemma4.bench import auto
from mlx_gemma4.bench.timing import WARM_UP, Sample, Series, each_alone, only
from mlx_gemma4.kernels import NAMES, enabled, launch, using
from mlx_gemma4.model import Gemma4

FIRST, SECOND, *_ = NAMES
Seconds = tuple[float, float]  # until the first token, and of decoding
PLAIN: Seconds = (2.0, 1.0)


def series(name: str, seconds: Seconds, *more: Seconds) -> Series:
    """Three rounds, each a little slower than the one before, or as many as given."""
    first, decode = seconds
    rounds = more or [(first * slow, decode * slow) for slow in (1.01, 1.02)]
    samples = tuple(Sample(*each, 1) for each in (seconds, *rounds))
    return Series(name, 20, 10, samples[0], samples)


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [
        ((2.0, 0.9), True),
        ((1.8, 1.0), True),
        ((1.8, 0.9), True),
        ((2.0, 1.0), False),
        ((2.0, 0.985), False),  # faster, but less so than rounds differ
        ((2.2, 0.9), False),  # reading pays for it
        ((1.8, 1.1), False),
    ],
)
def test_kept_is_what_gains_and_loses_nothing(seconds: Seconds, kept: bool) -> None:
    found = [series("kernels off", PLAIN), series(only(SECOND), seconds)]
    assert auto.faster([found]) == ((SECOND,) if kept else ())


def test_two_rounds_prove_nothing() -> None:
    two = [series("kernels off", PLAIN, PLAIN), series(only(FIRST), *[(1.0, 0.5)] * 2)]
    assert auto.faster([two]) == ()


def test_a_loss_at_another_context_counts() -> None:
    base = series("kernels off", PLAIN)
    gain, loss = ((series(only(FIRST), (2.0, s))) for s in (0.9, 1.1))
    same = series(only(FIRST), PLAIN)
    assert auto.faster([[base, gain], [base, same]]) == (FIRST,)
    assert auto.faster([[base, gain], [base, loss]]) == ()
    assert auto.faster([[base, gain], [base]]) == ()  # it failed


def test_all_together_and_other_programs_are_no_kernels() -> None:
    others = [series(name, (1.0, 0.5)) for name in ("kernels on", "mlx-lm")]
    assert auto.faster([[series("kernels off", PLAIN), *others]]) == ()


class Machine:
    """A Mac whose kernels take given times; counts what is measured on it."""

    def __init__(self, seconds: dict[str, Seconds]):
        self.seconds = seconds
        self.runs = 0
        self.wrong: float | None = 0.0
        self.notes: list[str] = []

    def __call__(self, prompt: list[int], decode: int) -> Sample:
        slow = 1 + 0.01 * (self.runs // (1 + len(NAMES)) % 5)  # by the round
        self.runs += 1
        (on,) = [name for name in NAMES if enabled(name)] or [""]
        first, decoding = self.seconds.get(on, PLAIN)
        return Sample(first * slow, decoding * slow, 1)

    def settle(self, model: Gemma4) -> list[str]:
        """The kernels that are then on."""
        self.notes.clear()
        auto.settle(model, self.notes.append)
        return [name for name in NAMES if enabled(name)]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    made = Machine({SECOND: (2.0, 0.5)})
    monkeypatch.setenv("GEMMA4_KERNELS", "auto")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(launch, "_settled", [])
    launch._from_environment.cache_clear()
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(auto, "contender", lambda model: made)
    monkeypatch.setattr(auto, "default_contexts", lambda model, decode: [7])
    monkeypatch.setattr(auto, "farthest", lambda model, name, context: made.wrong)
    return made


ALL = (1 + auto.ROUNDS) * (1 + len(NAMES))


def test_measured_once_and_remembered(machine: Machine) -> None:
    model = tiny.build("untied")
    assert not any(enabled(name) for name in NAMES)
    assert machine.settle(model) == [SECOND]
    assert machine.runs == ALL
    assert "measuring each kernel with this model, once" in machine.notes[0]
    assert machine.notes[1:] == [f"GEMMA4_KERNELS=auto: faster here: {SECOND}."]
    launch._settled.clear()
    assert machine.settle(model) == [SECOND]
    assert machine.runs == ALL and not machine.notes
    assert [path.name for path in auto.memory_file().parent.iterdir()] == [
        "kernels.json"
    ]


def test_the_warm_up_is_short(machine: Machine) -> None:
    asked: list[tuple[int, int]] = []

    def run(prompt: list[int], decode: int) -> Sample:
        asked.append((len(prompt), decode))
        return Sample(*PLAIN, 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auto, "contender", lambda model: run)
        assert machine.settle(tiny.build("untied")) == []
    contenders = len(each_alone(run))
    assert asked[:contenders] == [(7, WARM_UP)] * contenders
    assert set(asked[contenders:]) == {(7, auto.DECODE)}
    assert machine.notes[1] == "GEMMA4_KERNELS=auto: no kernel is faster here."


def test_a_kernel_that_fails_is_left_out(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(prompt: list[int], decode: int) -> Sample:
        if enabled(FIRST):
            raise RuntimeError("Unable to build metal library")
        return machine(prompt, decode)

    monkeypatch.setattr(auto, "contender", lambda model: run)
    machine.seconds[FIRST] = (0.1, 0.1)
    assert machine.settle(tiny.build("untied")) == [SECOND]
    assert f"{only(FIRST)} fails here and is left out" in machine.notes[1]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (0.5, "left out: its results are wrong"),
        (math.nan, "are not finite"),
        (None, ""),
    ],
)
def test_a_kernel_that_is_faster_and_wrong_is_left_out(
    machine: Machine, wrong: float | None, told: str
) -> None:
    machine.wrong = wrong
    assert machine.settle(tiny.build("untied")) == []
    assert told in machine.notes[1]
    base = series("kernels off", PLAIN)
    found = {5: [base, series(only(FIRST), (1.0, 1.0))]}
    auto.learn(tiny.build("untied"), found, 3, machine.notes.append)
    assert machine.settle(tiny.build("untied")) == []


def test_a_kernel_that_fails_when_compared_is_left_out(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: object) -> float:
        raise RuntimeError("too many threads")

    monkeypatch.setattr(auto, "farthest", failing)
    assert machine.settle(tiny.build("untied")) == []
    assert "fails here and is left out: too many threads" in machine.notes[1]


def test_using_wins_over_what_was_measured(machine: Machine) -> None:
    machine.settle(tiny.build("untied"))
    with using(FIRST):
        assert enabled(FIRST) and not enabled(SECOND)
    assert enabled(SECOND) and not enabled(FIRST)


@pytest.mark.parametrize(
    ("setting", "metal"), [("auto", False), ("off", True), ("", True), (FIRST, True)]
)
def test_never_measured_unasked_or_without_metal(
    setting: str, metal: bool, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMMA4_KERNELS", setting)
    monkeypatch.setattr(mx.metal, "is_available", lambda: metal)
    on = machine.settle(tiny.build("untied"))
    assert on == ([FIRST] if setting == FIRST else [])
    assert machine.runs == 0 and not auto.memory_file().exists()


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
def test_a_damaged_file_is_measured_again(machine: Machine, text: str) -> None:
    auto.memory_file().parent.mkdir()
    auto.memory_file().write_text(text)
    assert machine.settle(tiny.build("untied")) == [SECOND]
    assert machine.runs == ALL
    assert machine.notes[0].endswith(
        "kernels.json is damaged, and kernels are measured again."
    )
    (entry,) = json.loads(auto.memory_file().read_text())["answers"]
    assert entry["faster"] == [SECOND]


def test_an_answer_that_names_no_kernel_is_measured_again(machine: Machine) -> None:
    machine.settle(tiny.build("untied"))
    file = auto.memory_file()
    file.write_text(file.read_text().replace(f'"{SECOND}"\n   ]', '"none such"\n   ]'))
    assert "none such" in file.read_text()
    assert machine.settle(tiny.build("untied")) == [SECOND]
    assert machine.runs == 2 * ALL
    assert "none such" not in file.read_text()


def test_bytes_that_are_no_text(machine: Machine) -> None:
    auto.memory_file().parent.mkdir()
    auto.memory_file().write_bytes(b"\xff\xfe\x00")
    assert machine.settle(tiny.build("untied")) == [SECOND]
    assert "cannot be read" in machine.notes[0]


def test_a_folder_that_cannot_be_written(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert machine.settle(tiny.build("untied")) == [SECOND]
    assert any("is not remembered" in note for note in machine.notes)


def answers() -> list[dict[str, dict[str, str]]]:
    return json.loads(auto.memory_file().read_text())["answers"]


def test_another_shape_packing_chip_or_version_is_measured(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.build("untied")
    machine.settle(model)
    machine.settle(tiny.build("untied", seed=1))  # the same but for its values
    assert machine.runs == ALL
    machine.settle(tiny.build("untied", sliding_window=16))
    model.set_dtype(mx.bfloat16)
    machine.settle(model)
    assert machine.runs == 3 * ALL and len(answers()) == 3
    monkeypatch.setattr(auto, "__version__", "9")
    machine.settle(model)
    assert machine.runs == 4 * ALL
    versions = sorted(entry["place"]["mlx_gemma4"] for entry in answers())
    assert versions == [*[mlx_gemma4.__version__] * 2, "9"]  # in place of the older
    monkeypatch.setattr(mx, "device_info", lambda: {"device_name": "Apple M9"})
    machine.settle(model)
    assert machine.runs == 5 * ALL and len(answers()) == 4
    monkeypatch.setattr(auto, "NAMES", NAMES[:2])
    machine.settle(model)
    assert machine.runs > 5 * ALL and len(answers()) == 4


def test_a_benchmark_teaches_it(machine: Machine) -> None:
    model = tiny.build("untied")
    base = series("kernels off", PLAIN)
    found = {5: [base, series(only(FIRST), (1.0, 1.0))]}
    auto.learn(model, found, 2, machine.notes.append)
    assert not machine.notes and not auto.memory_file().exists()
    auto.learn(model, found, 3, machine.notes.append)
    assert machine.notes == [f"GEMMA4_KERNELS=auto: faster here: {FIRST}."]
    assert machine.settle(model) == [FIRST]
    assert machine.runs == 0


def test_a_benchmark_unasked_teaches_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMMA4_KERNELS", "off")
    found = {5: [series("kernels off", PLAIN), series(only(FIRST), (1.0, 1.0))]}
    auto.learn(tiny.build("untied"), found, 3, machine.notes.append)
    assert not machine.notes and not auto.memory_file().exists()
