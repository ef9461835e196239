"""Training: what is learned, weighted, repeated, guarded and resumed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import tiny
from adapting import write_tunable
from mlx.utils import tree_flatten
from PIL import Image

from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.config import Config
from mlx_gemma4.errors import DataError, TakenError
from mlx_gemma4.prompt.processor import Processor
from mlx_gemma4.tune import trainer as module
from mlx_gemma4.tune.adapters import AdapterSettings, new_adapter
from mlx_gemma4.tune.curve import draw_curve, nice_step, smoothed
from mlx_gemma4.tune.errors import AdapterError, Diverged
from mlx_gemma4.tune.evaluate import evaluate
from mlx_gemma4.tune.examples import Encoder, Example
from mlx_gemma4.tune.formats import read_adapter
from mlx_gemma4.tune.records import Record
from mlx_gemma4.tune.runs import Run, base_model, fingerprint
from mlx_gemma4.tune.samples import samples
from mlx_gemma4.tune.settings import Rhythm, Settings
from mlx_gemma4.tune.trainer import Step, Trainer, Validation

NEVER = Rhythm(0, 0, 0)
SMALL: dict[str, Any] = {"batch": 2, "accumulate": 2, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tunable(tmp_path_factory.mktemp("model"))


def example(length: int, seed: int, learned: int = 4) -> Example:
    tokens = tiny.random_tokens(length, seed)
    marks = [i >= length - learned for i in range(length)]
    return Example(tokens, marks, Record(f"a:{seed}"))


EXAMPLES = [example(8 + seed % 5, seed, 1 + seed % 4) for seed in range(7)]


@pytest.fixture
def make(folder: Path) -> Callable[..., Trainer]:
    """A fresh run on a freshly loaded model."""
    config = Config.from_file(folder / "config.json")
    encoder = Encoder(Processor.from_folder(folder, config))

    def make(steps: int = 5, kind: Any = "lora", **options: Any) -> Trainer:
        examples = options.pop("examples", EXAMPLES)
        held = options.pop("held", ())
        dtype = options.pop("dtype", mx.float32)
        settings = Settings(
            steps, adapter=AdapterSettings(kind, 2), **(SMALL | options)
        )
        model = load_model(folder)
        model.set_dtype(dtype)
        adapter = new_adapter(model, settings.adapter, settings.seed)
        return Trainer(model, adapter, encoder, settings, examples, held)

    return make


def weights(trainer: Trainer) -> dict[str, np.ndarray]:
    return {n: np.array(p) for n, p in trainer.adapter.parameters().items()}


def same(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> bool:
    assert one.keys() == two.keys()
    return all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["lora", pytest.param("dora", marks=pytest.mark.slow), "full"]
)
def test_the_loss_falls_and_equal_runs_are_equal(
    make: Callable[..., Trainer], kind: str
):
    runs = [make(12, kind, held=EXAMPLES[:2]) for _ in range(2)]
    events = [list(run.run(Rhythm(6, 0, 0))) for run in runs]
    found = [e for e in events[0] if isinstance(e, Validation)]
    assert [e.step for e in found] == [0, 6, 12]
    assert found[-1].report.loss < 0.7 * found[0].report.loss
    assert same(weights(runs[0]), weights(runs[1]))
    assert not same(weights(runs[0]), weights(make(1, kind)))


@pytest.mark.slow
def test_small_steps_are_not_lost_in_bfloat16(make: Callable[..., Trainer]):
    """Near 1 the next bfloat16 is 0.004 away; every step here is a fifth of that."""
    name = "language_model.norm.weight"
    options: Any = {"schedule": "constant", "warmup": 0.0, "clip": 0.0}
    trainer = make(
        20, "full", dtype=mx.bfloat16, learning_rate=8e-4, examples=EXAMPLES, **options
    )
    before = trainer.adapter.weights[name]
    assert before.dtype == mx.bfloat16
    trainer.one_step()
    moved = trainer.state.parameters[name] - before.astype(mx.float32)
    large = mx.abs(before) >= 1.0
    assert mx.any(large).item() and moved.dtype == mx.float32
    assert mx.abs(moved).max().item() == pytest.approx(8e-4, rel=1e-2)
    served = mx.where(large, trainer.adapter.weights[name] - before, 0)
    assert not mx.any(served).item()  # alone, the step is below the resolution
    list(trainer.run(NEVER))
    served = mx.where(large, trainer.adapter.weights[name] - before, 0)
    assert float(mx.abs(served).max()) >= 2**-7  # together, they are not
    weights = dict(tree_flatten(trainer.model.parameters()))
    assert weights[name].dtype == mx.bfloat16
    assert mx.array_equal(weights[name], trainer.adapter.weights[name])
    close = trainer.state.parameters[name].astype(mx.bfloat16)
    assert mx.array_equal(weights[name], close)


@pytest.mark.slow
def test_tokens_weigh_alike_however_they_are_batched(make: Callable[..., Trainer]):
    four = make(1, batch=4, accumulate=1, clip=0.0)
    ones = make(1, batch=1, accumulate=4, clip=0.0)
    (a,), (b,) = list(four.run(NEVER)), list(ones.run(NEVER))
    assert isinstance(a, Step) and isinstance(b, Step) and a.loss and b.loss
    assert (a.tokens, a.supervised) == (b.tokens, b.supervised)
    assert a.loss == pytest.approx(b.loss, rel=1e-5)
    assert a.norm == pytest.approx(b.norm, rel=1e-4)


def test_a_gradient_is_clipped(make: Callable[..., Trainer], monkeypatch: Any):
    sizes = []
    real = module.updated

    def seen(state: Any, gradients: Any, *rest: Any) -> Any:
        sizes.append(module.norm(gradients))
        return real(state, gradients, *rest)

    monkeypatch.setattr(module, "updated", seen)
    (step,) = make(1, clip=0.01).run(NEVER)
    assert isinstance(step, Step) and step.norm > 0.01
    assert sizes == [pytest.approx(0.01, rel=1e-4)]


@pytest.mark.slow
def test_stopped_inside_a_step(make: Callable[..., Trainer], monkeypatch: Any):
    """The last finished step is what is kept, and going on from it loses nothing."""
    whole, cut = make(4), make(4)
    list(whole.run(NEVER))
    steps = cut.run(NEVER)
    for _ in range(2):
        next(steps)
    before = weights(cut)

    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "norm", stop)
        with pytest.raises(KeyboardInterrupt):
            next(steps)
    cut.settle()
    assert cut.state.step == 2 and same(before, weights(cut))
    list(cut.run(NEVER))
    assert same(weights(whole), weights(cut))


@pytest.mark.slow
def test_a_step_without_a_finite_gradient_is_skipped(
    make: Callable[..., Trainer], monkeypatch: Any
):
    run = make(3)
    before = weights(run)
    with monkeypatch.context() as patch:
        patch.setattr(module, "norm", lambda _: float("nan"))
        step = run.one_step()
    assert step.loss is None and same(before, weights(run)) and run.state.step == 1
    assert run.one_step().loss is not None and run.state.updates == 1
    lost = make(20)
    monkeypatch.setattr(module, "norm", lambda _: float("inf"))
    with pytest.raises(Diverged, match="Lower --learning-rate"):
        list(lost.run(NEVER))
    assert lost.state.step == module.PATIENCE


def test_runs_of_other_settings_are_not_resumed(
    make: Callable[..., Trainer], tmp_path: Path
):
    trainer = make(2)
    run = Run(tmp_path, fingerprint(trainer.settings, trainer.train), {"model": "x"})
    run.begin()
    run.save(trainer.model, trainer.adapter, trainer.state)
    assert base_model(tmp_path) == "x"
    other = Run(tmp_path, fingerprint(make(3).settings, trainer.train), {})
    with pytest.raises(AdapterError, match="other data or settings"):
        other.load()
    with pytest.raises(TakenError, match="holds an adapter already"):
        other.begin()
    with pytest.raises(AdapterError, match="no run to resume"):
        Run(tmp_path / "none", "", {}).load()
    read = read_adapter(tmp_path, trainer.model)
    assert read.parameters().keys() == trainer.adapter.parameters().keys()


def test_the_log_and_its_curve(tmp_path: Path):
    run = Run(tmp_path, "", {})
    for step in range(1, 6):
        run.log({"kind": "step", "step": step, "loss": 3.0 / step})
    run.log({"kind": "validation", "step": 4, "loss": 1.0})
    run.log({"kind": "step", "step": 7, "loss": None})
    run.forget_after(4)
    assert [line["step"] for line in run.lines()] == [1, 2, 3, 4, 4]
    with Image.open(run.draw()) as image:
        assert image.format == "PNG" and image.size == (960, 540)
        colours = {colour for _, colour in image.convert("RGB").getcolors(10**6) or ()}
    assert {(31, 95, 168), (192, 57, 43)} <= colours


def test_a_log_cut_short_is_read_and_has_no_nan(tmp_path: Path):
    run = Run(tmp_path, "", {})
    run.log({"kind": "step", "step": 1, "loss": None, "norm": float("nan")})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')
    run.forget_after(3)
    assert list(run.lines()) == [
        {"kind": "step", "step": 1, "loss": None, "norm": None}
    ]
    assert "NaN" not in (tmp_path / "log.jsonl").read_text()


def test_another_picture_is_another_run(tmp_path: Path):
    """A picture is its content: another one under the same name is another run."""
    settings = Settings(1)
    for name, content in (("a", b"1"), ("b", b"2"), ("copy", b"1")):
        (tmp_path / f"{name}.png").write_bytes(content)

    def mark(picture: str | bytes) -> str:
        image = picture if isinstance(picture, bytes) else str(tmp_path / picture)
        part = {"type": "image", "image": image}
        record = Record("a:1", ({"role": "user", "content": [part]},))
        return fingerprint(settings, [Example([1, 2], [False, True], record)])

    marks = [mark("a.png"), mark("b.png")]
    assert len(set(marks)) == 2
    assert mark("a.png") == mark("copy.png") == mark(b"1") == marks[0]
    (tmp_path / "a.png").write_bytes(b"2")
    assert mark("a.png") == marks[1]
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png cannot be read: No such file"):
        mark("a.png")


def test_parts_of_the_curve(tmp_path: Path):
    assert [nice_step(x) for x in (0.011, 0.2, 0.21, 7)] == [0.02, 0.2, 0.5, 10]
    assert smoothed([(1, 2.0), (2, 2.0), (3, 2.0)])[-1] == (3, pytest.approx(2.0))
    draw_curve(tmp_path / "none.png", [], [])
    assert (tmp_path / "none.png").is_file()


def test_what_a_report_says(make: Callable[..., Trainer]):
    trainer = make(1)
    report = evaluate(trainer.model, trainer.encoder, EXAMPLES[:3])
    scores = [
        tiny.logits(trainer.model, e.tokens).astype(np.float64) for e in EXAMPLES[:3]
    ]
    losses, right = [], []
    for e, s in zip(EXAMPLES[:3], scores, strict=True):
        chances = np.exp(s) / np.exp(s).sum(-1, keepdims=True)
        places = [i for i, mark in enumerate(e.learned) if mark]
        losses += [-np.log(chances[i - 1, e.tokens[i]]) for i in places]
        right += [s[i - 1].argmax() == e.tokens[i] for i in places]
    assert report.loss == pytest.approx(np.mean(losses), rel=1e-4)
    assert report.accuracy == np.mean(right) and report.tokens == len(right)
    assert report.perplexity == pytest.approx(np.exp(report.loss))


@pytest.mark.slow
def test_samples_are_answers(folder: Path, make: Callable[..., Trainer]):
    trainer = make(1)
    ask = {"role": "user", "content": "Capital of France?"}
    say = {"role": "assistant", "content": "Paris."}
    records = [
        Record("a:1", (ask,)),
        Record("a:2", (ask, say)),
        Record("a:3", text="x"),
    ]
    (found,) = samples(trainer.model, trainer.encoder.processor, records, 3)
    assert (found.question, found.wanted) == ("Capital of France?", "Paris.")
    assert json.dumps(vars(found))


@pytest.mark.slow
@pytest.mark.parametrize("every", [0, 1, 2, 5, 9])
def test_the_time_of_a_run_is_that_of_its_steps_and_validations(
    make: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, every: int
):
    """Each gradient takes 10 s here, and each held-out example 1 s, longest or not."""
    now, scored = [0.0], []

    def score(model: Any, encoder: Any, examples: Any) -> Any:
        now[0] += len(examples)
        scored.append(examples)
        return evaluate(model, encoder, examples)

    trainer = make(held=EXAMPLES[:3])
    gradient = trainer._accumulated

    def slow(state: Any, examples: Any) -> Any:
        now[0] += 10 * len(examples) / trainer.settings.batch
        return gradient(state, examples)

    monkeypatch.setattr(module, "evaluate", score)
    monkeypatch.setattr(trainer, "_accumulated", slow)
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    expected = trainer.expected_seconds(Rhythm(every, 0, 0))
    assert scored == [[max(EXAMPLES[:3], key=lambda e: len(e.tokens))]]
    now[0] = 0.0
    list(trainer.run(Rhythm(every, 0, 0)))
    assert now[0] == expected
