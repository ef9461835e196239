"""A run that is stopped anywhere, however, ends as if it had never been stopped."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import mlx.core as mx
import pytest
import tiny
from adapting import write_tunable
from command import Runner

from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.config import Config
from mlx_gemma4.prompt.processor import Processor
from mlx_gemma4.tune import trainer as module
from mlx_gemma4.tune.adapters import AdapterSettings, new_adapter
from mlx_gemma4.tune.examples import Encoder, Example
from mlx_gemma4.tune.optimizer import State
from mlx_gemma4.tune.records import Record
from mlx_gemma4.tune.runs import Run, fingerprint
from mlx_gemma4.tune.settings import Rhythm, Settings
from mlx_gemma4.tune.trainer import Step, Trainer, Validation

STEPS = 9
FILES = ("adapters.safetensors", "resume.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tunable(tmp_path_factory.mktemp("model"))


def example(length: int, seed: int, learned: int) -> Example:
    marks = [i >= length - learned for i in range(length)]
    return Example(tiny.random_tokens(length, seed), marks, Record(f"a:{seed}"))


# A prime number of them: passes through the data and steps never end together.
EXAMPLES = [example(8 + seed % 5, seed, 1 + seed % 4) for seed in range(7)]


@pytest.fixture
def make(folder: Path) -> Callable[[Any], Trainer]:
    """A fresh run on a freshly loaded model: two batches of two, decay, a warm-up."""
    config = Config.from_file(folder / "config.json")
    encoder = Encoder(Processor.from_folder(folder, config))

    def make(kind: Any) -> Trainer:
        settings = Settings(
            STEPS,
            batch=2,
            accumulate=2,
            learning_rate=1e-2,
            schedule="linear",
            warmup=0.3,
            weight_decay=0.01,
            seed=5,
            adapter=AdapterSettings(kind, 2),
        )
        model = load_model(folder)
        adapter = new_adapter(model, settings.adapter, settings.seed)
        return Trainer(model, adapter, encoder, settings, EXAMPLES)

    return make


def assert_same(one: State, two: State) -> None:
    assert (one.step, one.updates) == (two.step, two.updates)
    for part in ("parameters", "first", "second"):
        a, b = getattr(one, part), getattr(two, part)
        assert a.keys() == b.keys()
        assert all(mx.array_equal(a[name], b[name]).item() for name in a), part


def interrupted(trainer: Trainer, run: Run, at: int) -> None:
    """Train until the `at`-th batch from here on, stop inside it, and save."""
    real, left = module.batch_of, [at]

    def stopping(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "batch_of", stopping)
        list(trainer.run(Rhythm(0, 0, 0)))
    trainer.settle()
    run.save(trainer.model, trainer.adapter, trainer.state)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, seed",
    [
        ("lora", 1),
        pytest.param("lora", 2, marks=pytest.mark.slow),
        pytest.param("lora", 3, marks=pytest.mark.slow),
        pytest.param("dora", 4, marks=pytest.mark.slow),
        ("full", 5),
    ],
)
def test_stopped_twice_at_random(
    make: Callable[[Any], Trainer], tmp_path: Path, kind: str, seed: int
):
    whole = make(kind)
    orders = [[e.record.where for e in whole._examples(step)] for step in range(STEPS)]
    assert len({tuple(order) for order in orders}) > STEPS / 2  # shuffled anew
    list(whole.run(Rhythm(0, 0, 0)))
    random, parts = Random(seed), make(kind)
    run = Run(tmp_path, fingerprint(parts.settings, parts.train), {})
    run.begin()
    batches = 2 * STEPS
    for _ in range(2):
        stop = random.randrange(1, batches - 2)
        interrupted(parts, run, stop)
        batches -= stop
        parts = make(kind)
        parts.resume(run.load())
        if batches < 4:
            break
    steps = [e.step for e in parts.run(Rhythm(0, 0, 0)) if isinstance(e, Step)]
    assert 0 < len(steps) and steps[-1] == STEPS
    assert_same(whole.state, parts.state)


def data_file(folder: Path) -> Path:
    rows = [
        {"prompt": f"Capital of {place}?", "completion": f"{place} has Paris."}
        for place in ("France", "Spain", "Peru", "Chile", "Cuba", "Kenya", "Italy")
    ]
    file = folder / "data.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def steps_of(out: Path) -> list[int]:
    """The steps of the log whose lines are whole."""
    if not (out / "log.jsonl").is_file():
        return []
    lines = (out / "log.jsonl").read_text().split("\n")[:-1]
    found = [json.loads(line) for line in lines]
    return [line["step"] for line in found if line["kind"] == "step"]


def wait_for_step(process: subprocess.Popen[bytes], out: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while max(steps_of(out), default=0) < step:
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
def test_a_run_stopped_in_its_last_validation_is_validated(
    make: Callable[..., Trainer],
):
    trainer = make("lora")
    trainer.validation = EXAMPLES[:2]
    rhythm = Rhythm(validate=4)
    found = [(type(event), event.step) for event in trainer.run(rhythm)]
    validated = [step for kind, step in found if kind is Validation]
    assert validated == [0, 4, 8, STEPS]
    (again,) = trainer.run(rhythm)
    assert isinstance(again, Validation) and again.step == STEPS


@pytest.mark.slow
def test_stopped_by_signals(gemma4: Runner, folder: Path, tmp_path: Path):
    """Ctrl-C and a kill at random steps, each in a process of its own."""
    total, every = 60, 5
    options = [str(data_file(tmp_path)), "-m", str(folder), "--steps", str(total)]
    options += ["--rank", "2", "--batch", "2", "--accumulate", "2", "--lr", "0.01"]
    options += ["--save-every", str(every), "--validation", "0.2"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done = gemma4("tune", *options, "-o", str(whole))
    assert done.returncode == 0, done.stderr
    random, more = Random(6), []
    stops = sorted(random.sample(range(every + 1, total // 2), 2))
    for stop, how in zip(stops, (signal.SIGINT, signal.SIGKILL), strict=True):
        process = gemma4.start("tune", *options, "-o", str(cut), *more)
        wait_for_step(process, cut, stop)
        process.send_signal(how)
        _, told = process.communicate(timeout=120)
        expected = 130 if how is signal.SIGINT else -signal.SIGKILL
        assert process.returncode == expected, told.decode()
        more = ["--resume"]
    done = gemma4("tune", *options, "-o", str(cut), "--resume")
    assert done.returncode == 0, done.stderr
    assert "Going on after step" in done.stderr
    for name in FILES:
        ours, theirs = (tensors(out / name) for out in (whole, cut))
        assert ours.keys() == theirs.keys()
        assert all(mx.array_equal(ours[n], theirs[n]).item() for n in ours)
    found = steps_of(cut)
    assert found == sorted(set(found)) and found[-1] == total


def tensors(file: Path) -> dict[str, mx.array]:
    found: Any = mx.load(str(file))
    return found
