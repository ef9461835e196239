"""`gemma4 tune`: what it prints where, its files, and its exit codes."""

import base64
import json
import resource
import shutil
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import tiny
import typer
from adapting import write_tunable
from command import GREEDY, QUESTION, Runner
from places import SHAPES
from windows import Window

from mlx_gemma4.cli.loading import open_model
from mlx_gemma4.cli.render import Screen
from mlx_gemma4.cli.tune import train as tune_train
from mlx_gemma4.cli.tune.command import app
from mlx_gemma4.cli.tune.results import evaluate_adapter, export_adapter, fuse_adapter
from mlx_gemma4.tune import plan as plans
from mlx_gemma4.tune import trainer
from mlx_gemma4.tune.folders import Hold

Run = Callable[..., int]
TINY = ("--rank", "2", "--batch", "2", "--accumulate", "1", "--lr", "0.01")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tunable(tmp_path_factory.mktemp("model")))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        {"prompt": f"Capital of {place}?", "completion": "Paris."}
        for place in ("France", "Spain", "Peru", "Chile", "Cuba", "Kenya")
    ]
    file = tmp_path / "data.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


@pytest.fixture
def tune() -> Run:
    """The command in this process; returns its exit code."""

    def run(*arguments: str | Path) -> int:
        try:
            return app([*map(str, arguments)], standalone_mode=False) or 0
        except typer.Exit as done:
            return done.exit_code

    return run


@pytest.mark.slow
def test_trains_evaluates_fuses_and_exports(
    tune: Run, model: str, data: Path, tmp_path: Path, capsys: Any
):
    out = tmp_path / "out"
    assert tune(data, "-m", model, "-o", out, "--steps", "20", *TINY) == 0
    told = capsys.readouterr()
    assert "parameters to learn" in told.out and "20 steps in" in told.out
    assert "step 20/20" in told.err and "validation loss" in told.err
    assert {p.name for p in out.iterdir()} == {
        *("adapters.safetensors", "adapter_config.json", "resume.safetensors"),
        *("log.jsonl", "loss.png"),
    }
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["model"] == str(Path(model).resolve()) and config["step"] == 20
    kinds = [
        json.loads(x)["kind"] for x in (out / "log.jsonl").read_text().splitlines()
    ]
    assert kinds.count("step") == 20 and kinds.count("validation") == 2

    screen = Screen(as_json=True)
    evaluate_adapter(data, None, out, (2048, "error", None), screen)
    report = json.loads(capsys.readouterr().out)
    assert report["adapter"]["loss"] < 0.5 * report["base"]["loss"]
    assert report["adapter"]["exact_match"] > report["base"]["exact_match"]

    export_adapter(out, tmp_path / "peft", None, "peft", screen)
    export_adapter(tmp_path / "peft", tmp_path / "back", model, "mlx", screen)
    fuse_adapter(out, tmp_path / "fused", None, "bf16", screen)
    tokens = tiny.random_tokens(12, 1)
    named = [("back", model), ("fused", None), ("out", None)]
    logits = {}
    for name, base in named:
        path = tmp_path / name
        args = (str(path), screen) if name == "fused" else (base, screen, path)
        logits[name] = tiny.logits(open_model(*args)[0], tokens)
    np.testing.assert_array_equal(logits["back"], logits["out"])
    plain = tiny.logits(open_model(model, screen)[0], tokens)
    assert np.abs(plain - logits["out"]).mean() > 0.3
    assert np.abs(logits["fused"] - logits["out"]).mean() < 0.1


@pytest.mark.slow
def test_ctrl_c_saves_and_resume_ends_the_same(
    tune: Run, model: str, data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
):
    options = (data, "-m", model, "--steps", "6", "--validation", "0", *TINY)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert tune(*options, "-o", whole) == 0
    real = tune_train.Teller.take

    def stopping(self: Any, event: Any, run: Any) -> None:
        real(self, event, run)
        if event.step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tune_train.Teller, "take", stopping)
        assert tune(*options, "-o", cut) == 130
    assert "Saved step 4" in capsys.readouterr().err
    assert tune(*options, "-o", cut) == 2
    assert "--resume" in capsys.readouterr().err
    assert tune(*options, "-o", cut, "--resume") == 0
    found: Any = [mx.load(str(f / "adapters.safetensors")) for f in (whole, cut)]
    assert found[0].keys() == found[1].keys()
    assert all(mx.array_equal(found[0][name], found[1][name]) for name in found[0])
    logs = [(f / "log.jsonl").read_text().splitlines() for f in (whole, cut)]
    losses = [[json.loads(line)["loss"] for line in log] for log in logs]
    assert losses[0] == losses[1] and len(losses[0]) == 6
    assert tune(*options, "--seed", "1", "-o", cut, "--resume") == 3
    assert "other data or settings" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_while_the_end_is_saved_loses_nothing(
    tune: Run, model: str, data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
):
    options = (data, "--steps", "2", *TINY)
    out, real, calls = tmp_path / "out", tune_train.Run.save, []

    def stopping(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(tune_train.Run, "save", stopping)
        assert tune(*options, "-m", model, "-o", out) == 130
    assert "Saved step 2" in capsys.readouterr().err
    # Without a model's name it is the one that the run was started with.
    assert tune(*options, "-o", out, "--resume") == 0
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    assert tune(*options, "-m", copy, "-o", out, "--resume") == 0
    make_other(copy)
    assert tune(*options, "-m", copy, "-o", out, "--resume") == 3
    told = capsys.readouterr().err
    assert "another model: " in told and f"{copy} has other weights" in told


def make_other(model: Path) -> None:
    """Another model under the name of one."""
    file = model / "model.safetensors"
    tensors: Any = mx.load(str(file))
    mx.save_safetensors(str(file), {n: t * 1.5 for n, t in tensors.items()})


@pytest.mark.slow
def test_two_runs_cannot_share_a_folder(
    tune: Run, model: str, data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
):
    """Neither one that is there, nor one that both would make."""
    out = tmp_path / "out"
    options = (data, "-m", model, "-o", out, "--steps", "1", *TINY)
    out.mkdir()
    words = f"{out} is being written by another process: wait for it to end."
    with closing(Hold(out)) as hold:
        hold.take()
        assert tune(*options) == 1
        assert words in capsys.readouterr().err
        real = tune_train.Hold.take
        calls: list[bool] = []

        def late(self: Any) -> None:
            calls.append(self.folder.is_dir())
            if len(calls) > 1:
                real(self)

        with monkeypatch.context() as patch:
            patch.setattr(tune_train.Hold, "take", late)
            assert tune(*options) == 1
        assert len(calls) == 2 and words in capsys.readouterr().err
        assert list(out.iterdir()) == []
    assert tune(*options) == 0


@pytest.mark.slow
def test_nothing_of_the_users_is_replaced(
    tune: Run, model: str, data: Path, tmp_path: Path, capsys: Any
):
    out, there = tmp_path / "out", tmp_path / "there"
    assert tune(data, "-m", model, "-o", out, "--steps", "1", *TINY) == 0
    there.mkdir()
    mine = there / "adapter_model.safetensors"
    for form in ("peft", "mlx"):
        mine.write_text("mine")
        (there / "notes.txt").write_text("mine")
        assert tune("export", out, there, "--to", form) == 2
        assert f"{mine} exists; add --overwrite to replace" in capsys.readouterr().err
        assert mine.read_text() == "mine"
        assert tune("export", out, there, "--to", form, "--overwrite") == 0
        assert mine.is_file() == (form == "peft")  # the other's would be read
        assert tune("eval", data, "-m", model, "--adapter", there) == 0
        assert (there / "notes.txt").read_text() == "mine"
    assert tune("export", out, out, "--overwrite") == 2
    assert "is the adapter itself" in capsys.readouterr().err
    assert tune("export", there, out, "-m", model, "--overwrite") == 2
    assert "holds a run of its own" in capsys.readouterr().err
    for more in ((), ("--overwrite",)):
        assert tune("fuse", out, there, *more) == 2
        assert "which neither fusing nor converting wrote" in capsys.readouterr().err
        assert tune("fuse", out, tmp_path / "fused", *more) == 0
    assert tune("fuse", out, tmp_path / "fused") == 2
    assert "fused exists; add --overwrite" in capsys.readouterr().err
    above = out.parent
    assert tune("fuse", out, above, "--overwrite") == 2
    assert f"{above} holds the adapter" in capsys.readouterr().err


@pytest.mark.slow
def test_an_adapter_knows_its_base_by_content(
    tune: Run, model: str, data: Path, tmp_path: Path, capsys: Any
):
    base, out = tmp_path / "base", tmp_path / "out"
    shutil.copytree(model, base)
    assert tune(data, "-m", base, "-o", out, "--steps", "1", *TINY) == 0
    capsys.readouterr()
    assert tune("eval", data, "-m", model, "--adapter", out) == 0
    assert "was made for" not in capsys.readouterr().err  # moved, and the same
    make_other(base)
    assert tune("eval", data, "--adapter", out) == 0
    told = capsys.readouterr().err
    words = f"Warning: {out} was made for other weights than {base.resolve()} has now."
    assert words in told
    assert tune("eval", data, "-m", "demo", "--adapter", out) == 3
    assert f"was made for {base.resolve()}, not demo" in capsys.readouterr().err


def test_a_full_disk_is_exit_code_4(
    tune: Run, model: str, data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
):
    most = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(*_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, most[1]))
        raise RuntimeError("[write] Unable to write 9 bytes to file.")

    monkeypatch.setattr(mx, "save_safetensors", full)
    out = tmp_path / "out"
    try:
        assert tune(data, "-m", model, "-o", out, "--steps", "1", *TINY) == 4
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    told = capsys.readouterr().err
    assert f"The disk is full: {out / 'adapters.safetensors'} was not written" in told


def test_what_diverges_keeps_its_last_usable_step(
    tune: Run, model: str, data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
):
    monkeypatch.setattr(trainer, "norm", lambda _: float("nan"))
    out = tmp_path / "out"
    assert tune(data, "-m", model, "-o", out, "--steps", "9", *TINY) == 1
    told = capsys.readouterr()
    assert "has diverged" in told.err and "Saved step 5" in told.err
    found: Any = mx.load(str(out / "adapters.safetensors"))
    assert all(mx.isfinite(tensor).all() for tensor in found.values())


def test_what_is_left_out_of_the_validation_is_said(
    tune: Run, model: str, data: Path, tmp_path: Path, capsys: Any
):
    folder = tmp_path / "both"
    folder.mkdir()
    line = data.read_text().splitlines()[0]
    (folder / "train.jsonl").write_text(line)
    longer = json.dumps({"prompt": "word " * 200, "completion": "Yes."})
    (folder / "valid.jsonl").write_text(f"{line}\n{longer}")
    options = ("--max-length", "60", "--long", "skip", "--show-mask", "1")
    assert tune(folder, "-m", model, *options) == 0
    assert "1 examples are longer and left out" in capsys.readouterr().err


def test_the_mask_is_shown(tune: Run, model: str, data: Path, capsys: Any):
    assert tune(data, "-m", model, "--validation", "0", "--show-mask", "2") == 0
    shown = capsys.readouterr().out
    assert shown.count("⟦Paris.<turn|>⟧") == 2 and "data.jsonl:1: 3 of" in shown


def test_the_mask_is_in_colour_on_a_terminal(
    tune: Run, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    said = {"prompt": "Hi", "completion": "Paris\x1b[2J."}
    (tmp_path / "data.jsonl").write_text(json.dumps(said))
    window = Window(monkeypatch, 200)
    monkeypatch.setattr(sys, "stdout", window)
    options = ("-m", model, "--validation", "0", "--show-mask", "1")
    assert tune(tmp_path / "data.jsonl", *options) == 0
    assert "\x1b[1;32mParis[2J.<turn|>\x1b[0m" in window.getvalue()


@pytest.mark.slow
def test_the_mask_shows_that_a_picture_is_in(
    tune: Run, tmp_path: Path, monkeypatch: Any, capsys: Any
):
    shutil.copy(SHAPES, tmp_path)
    said = {"prompt": "What?", "completion": "A square."}
    turns = [{"from": "human", "value": "<image>\nWhat?"}]
    turns.append({"from": "gpt", "value": "A square."})
    coded = base64.b64encode((tmp_path / "shapes.png").read_bytes()).decode()
    file = tmp_path / "data.jsonl"
    rows = [
        {**said, "file_name": "shapes.png"},
        {"id": 1, "image": "shapes.png", "conversations": turns},
        {**said, "image": {"bytes": coded, "path": None}},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    options = ("-m", "demo", "--validation", "0", "--show-mask", "3")
    assert tune(file, *options) == 0
    shown = capsys.readouterr().out.split("data.jsonl:")[1:]
    views = [text.partition("\n")[2].strip() for text in shown]
    assert views[0].count("<|image|>×") == 1 and len(set(views)) == 1
    coded = base64.b64encode(b"no picture at all").decode()
    file.write_text(json.dumps({**said, "image": {"bytes": coded}}))
    assert tune(file, *options) == 5
    assert "data.jsonl:1 " in capsys.readouterr().err
    file.write_text(json.dumps({**said, "picture": "shapes.png"}))
    assert tune(file, *options) == 5
    assert "names shapes.png in picture, which is not" in capsys.readouterr().err


def test_a_plan_alone(tune: Run, model: str, data: Path, tmp_path: Path, capsys: Any):
    assert tune(data, "-m", model, "--dry-run", "--json", "--rank", "2") == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert (plan["examples"], plan["validation"]) == (5, 1)
    assert plan["memory"]["total"] > 0 and plan["seconds"] > 0
    assert list(tmp_path.iterdir()) == [data]


def test_samples_are_shown(
    tune: Run, model: str, data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
):
    monkeypatch.setattr("mlx_gemma4.tune.samples.LONGEST", 2)
    options = ("--steps", "2", "--validation", "0", "--sample-every", "2", *TINY)
    assert tune(data, "-m", model, "-o", tmp_path / "out", *options) == 0
    told = capsys.readouterr().err
    assert told.count("(wanted 'Paris.')") == 3 and "Capital of" in told


def test_what_cannot_fit_is_refused_with_the_knob_to_turn(
    tune: Run, model: str, data: Path, monkeypatch: Any, capsys: Any
):
    monkeypatch.setattr("mlx_gemma4.device.memory_limit", lambda: 10**8)
    monkeypatch.setattr(plans, "PIECE_COPIES", 10**5)
    assert tune(data, "-m", model, "--dry-run", "--batch", "2") == 4
    told = capsys.readouterr().err
    assert "this run would take about" in told and "--batch 1" in told


@pytest.mark.parametrize(
    "line, words",
    [('{"prompt": "a"}', "data.jsonl:1 prompt and completion"), (" ", "is empty")],
)
def test_bad_data_is_exit_code_5_and_leaves_no_folder(
    tune: Run, data: Path, line: str, words: str, capsys: Any
):
    data.write_text(line)
    assert tune(data, "-m", "no/such-model", "-o", data.parent / "out") == 5
    assert words in capsys.readouterr().err
    assert list(data.parent.iterdir()) == [data]


def test_what_is_validated_and_trained_is_said(
    tune: Run, model: str, data: Path, tmp_path: Path, capsys: Any
):
    folder = tmp_path / "both"
    folder.mkdir()
    lines = data.read_text().splitlines()
    (folder / "train.jsonl").write_text("\n".join(lines[:4]))
    (folder / "valid.jsonl").write_text("\n".join(lines[2:]))
    assert tune(folder, "-m", model, "--show-mask", "1") == 0
    assert "2 of 4 validation examples are also trained" in capsys.readouterr().err
    (folder / "valid.jsonl").write_text("\n".join(lines[4:]))
    assert tune(folder, "-m", model, "--show-mask", "1") == 0
    assert "trained" not in capsys.readouterr().err


@pytest.mark.slow
def test_an_adapter_of_another_model_is_said(
    tune: Run, model: str, data: Path, tmp_path: Path, capsys: Any
):
    """Its shapes fit; what it was trained on is another model's."""
    out, copy = tmp_path / "out", tmp_path / "copy"
    assert tune(data, "-m", model, "-o", out, "--steps", "1", *TINY) == 0
    shutil.copytree(model, copy)
    make_other(copy)
    words = f"Warning: {out} was made for {Path(model).resolve()}, not {copy}."
    for command in (
        ("eval", data, "--adapter", out),
        ("fuse", out, tmp_path / "fused"),
        ("export", out, tmp_path / "peft"),
    ):
        capsys.readouterr()
        assert tune(*command, "-m", copy) == 0
        assert words in capsys.readouterr().err, command[0]
    assert tune("eval", data, "--adapter", out) == 0
    assert "was made for" not in capsys.readouterr().err
    assert tune("fuse", out, tmp_path / "other", "-m", "demo") == 3
    told = capsys.readouterr().err
    assert "not demo" in told and "was made for another model" in told


@pytest.mark.slow
def test_what_of_an_adapter_has_no_effect_is_said(
    tune: Run, model: str, data: Path, tmp_path: Path, capsys: Any
):
    """Its layer 3 takes keys and values from another."""
    out = tmp_path / "out"
    assert tune(data, "-m", model, "-o", out, "--steps", "1", *TINY) == 0
    file = out / "adapters.safetensors"
    tensors: Any = mx.load(str(file))
    mx.eval(tensors)
    own = {n: t for n, t in tensors.items() if "layers.1.self_attn.k_proj" in n}
    unused = {n.replace("layers.1", "layers.3"): t for n, t in own.items()}
    assert len(unused) == 2 and not unused.keys() & tensors.keys()
    mx.save_safetensors(str(file), tensors | unused)
    words = "adapts k_proj of KV-shared layers (3)"
    for command, folder in (("fuse", "fused"), ("export", "peft")):
        capsys.readouterr()
        assert tune(command, out, tmp_path / folder) == 0
        assert capsys.readouterr().err.count(words) == 1, command
    kept: Any = mx.load(str(tmp_path / "peft" / "adapter_model.safetensors"))
    assert len(kept) == len(tensors)


def test_numbers_that_are_none_are_refused_before_anything_is_written(
    tune: Run, model: str, data: Path, tmp_path: Path, capsys: Any
):
    out, new = tmp_path / "out", tmp_path / "new"
    assert tune(data, "-m", model, "-o", out, "--steps", "1", *TINY) == 0
    file = out / "adapters.safetensors"
    tensors: Any = mx.load(str(file))
    name = min(tensors)
    tensors[name] = tensors[name] * float("nan")
    mx.eval(tensors)
    mx.save_safetensors(str(file), tensors)
    for command in (("fuse", out, new), ("export", out, new)):
        capsys.readouterr()
        assert tune(*command) == 3
        assert f"no finite numbers: {name}" in capsys.readouterr().err
        assert not new.exists()


def test_usage(tune: Run, model: str, data: Path, tmp_path: Path, capsys: Any):
    assert tune(data, "-m", model) == 2
    assert "Name the folder" in capsys.readouterr().err
    assert tune(data, "-m", model, "-o", data) == 2
    assert "is a file: name a folder" in capsys.readouterr().err
    options = ("-m", model, "--dry-run", "--target", "experts")
    assert tune(data, *options) == 3
    assert "nothing to adapt as 'experts'" in capsys.readouterr().err


@pytest.mark.slow
def test_as_a_process(gemma4: Runner, model: str, data: Path, tmp_path: Path):
    """Through the entry point, with nobody to read the plan; chat loads the adapter."""
    listed = gemma4("tune", "--help").stdout
    assert all(word in listed for word in ("train", "eval", "fuse", "export"))
    out = str(tmp_path / "out")
    steps = ("--steps", "1", "--validation", "0")
    assert gemma4.unread("tune", str(data), "-m", model, "-o", out, *steps, *TINY) == 0
    question = ("chat", *GREEDY, "--max-tokens", "2", QUESTION)
    answer = gemma4(*question, "--adapter", out)
    assert answer.returncode == 0, answer.stderr
    refused = gemma4(*question, "-m", "demo", "--adapter", out)
    assert refused.returncode == 3 and "made for another model" in refused.stderr
    assert f"was made for {model}, not demo" in refused.stderr


def test_mistyped_words_are_wrong_usage(
    tune: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(data, "-o", tmp_path / "out", "--target", "atention") == 2
    assert "no target 'atention'" in capsys.readouterr().err
    assert tune("fuse", tmp_path, tmp_path / "out", "--to", "4bit") == 2
    with pytest.raises(typer.TyperException, match="eval"):
        tune("evl", data)
    assert not (tmp_path / "out").exists()


def test_a_mistyped_field_is_told_with_what_it_is_like(
    tune: Run, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"prompt": "a", "completion": "b", "sytem": "Be brief.", "category": "open"}
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps(row) + "\n")
    look = ("-m", model, "--show-mask", "1", "--validation", "0")
    assert tune(data, *look) == 0
    said = capsys.readouterr().err
    assert "Fields without a meaning: category, sytem (system?)." in said
    assert tune(data, *look[:-2]) == 5
    assert "too few examples" in capsys.readouterr().err
