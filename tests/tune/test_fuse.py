"""Fused checkpoints: near the adapter that is in them, and never a half."""

import errno
import json
import os
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import tiny
from adapting import WIDE, filled, quantised, take_off
from mlx.utils import tree_flatten

from mlx_gemma4.checkpoint import shards
from mlx_gemma4.checkpoint.files import read_tensors
from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.checkpoint.shards import lay_out
from mlx_gemma4.convert.check import verify
from mlx_gemma4.errors import BusyError, DiskFullError, TakenError
from mlx_gemma4.tune import fuse as module
from mlx_gemma4.tune.adapters import AdapterSettings, new_adapter, put_on
from mlx_gemma4.tune.errors import AdapterError
from mlx_gemma4.tune.folders import Hold
from mlx_gemma4.tune.fuse import fuse
from mlx_gemma4.tune.replacing import replacing

TOKENS = tiny.random_tokens(20, 3)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["E2B", "26B-A4B"])
@pytest.mark.parametrize("form, gap", [("bf16", 0.05), ("8bit", 0.11)])
def test_fused(tmp_path: Path, variant: str, form: str, gap: float):
    model = quantised(tmp_path / "model", variant)
    linears = (nn.QuantizedLinear, nn.QuantizedEmbedding)
    assert any(isinstance(m, linears) for _, m in model.named_modules())
    names = ("attention", "mlp") + (("experts",) if variant == "26B-A4B" else ())
    adapter = filled(model, "lora", *names)
    plain = tiny.logits(model, TOKENS)
    put_on(model, adapter)
    adapted = tiny.logits(model, TOKENS)
    take_off(model, adapter)
    fuse(model, adapter, tmp_path / "model", tmp_path / "out", form)
    fused = tiny.logits(load_model(tmp_path / "out"), TOKENS)
    # On average: now and then a token goes to another expert.
    assert np.abs(adapted - plain).mean() > 2.5 * gap
    assert np.abs(fused - adapted).mean() < gap
    packed = [m for _, m in load_model(tmp_path / "out").named_modules()]
    assert any(isinstance(m, linears) for m in packed) == (form == "8bit")
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_towers_are_fused_and_written(demo_folder: Path, tmp_path: Path):
    model = load_model(demo_folder)
    before: Any = dict(tree_flatten(model.parameters()))
    adapter = filled(model, "lora", "attention", "vision", "audio")
    put_on(model, adapter)
    fuse(model, adapter, demo_folder, tmp_path / "out", "bf16")
    after: Any = dict(tree_flatten(load_model(tmp_path / "out").parameters()))
    assert after.keys() == before.keys()
    assert any(name.startswith("audio_tower") for name in before)
    merged = {
        f"{path}.weight": layer.merged() for path, layer in adapter.layers.items()
    }
    for name, array in (before | merged).items():
        assert mx.array_equal(after[name], array.astype(mx.bfloat16)), name


@pytest.mark.slow
@pytest.mark.parametrize("on", ["the same", "another", "one of other maps"])
def test_an_adapter_that_is_on_is_fused_once(tmp_path: Path, on: str):
    tiny.write_checkpoint(tmp_path / "model", "E2B", tokenizer=True)
    model = load_model(tmp_path / "model")
    adapter = filled(model)
    plain = {path: layer.linear.weight for path, layer in adapter.layers.items()}
    if on == "one of other maps":
        others = filled(model, "lora", "mlp", seed=2)
        adapter = filled(model, "lora", "attention")
    else:
        others = adapter if on == "the same" else filled(model, seed=2)
    put_on(model, others)
    fuse(model, adapter, tmp_path / "model", tmp_path / "out", "bf16")
    fused = dict(load_model(tmp_path / "out").named_modules())
    expected = {path: layer.merged() for path, layer in adapter.layers.items()}
    for path, weight in (plain | expected).items():
        assert mx.array_equal(fused[path].weight, weight.astype(mx.bfloat16)), path


def test_what_tells_of_the_base_alone_is_not_taken_along(tmp_path: Path):
    """Checksums and packings of a base that was converted, weights of other formats."""
    source, out = tmp_path / "model", tmp_path / "out"
    model = quantised(source, "E2B")
    others = ("conversion.json", "quant_config.json", "other.safetensors", "README.md")
    for name in others:
        (source / name).write_text("{}")
    (source / "chat_template.jinja").write_text("template")
    fuse(model, filled(model), source, out, "bf16")
    assert not {file.name for file in out.iterdir()} & {*others}
    assert (out / "chat_template.jinja").read_text() == "template"
    assert verify(out).files == 0


def test_half_a_fused_model_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = quantised(tmp_path / "model", "E2B")

    real, left = os.pwrite, [30]

    def full(descriptor: int, data: memoryview, offset: int) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data, offset)

    monkeypatch.setattr(shards.os, "pwrite", full)
    out = tmp_path / "out"
    with pytest.raises(DiskFullError, match=r"The disk is full: .*out was not written"):
        fuse(model, filled(model), tmp_path / "model", out, "bf16")
    assert os.listdir(tmp_path) == ["model"]  # the same command can be typed again


@pytest.mark.slow
def test_a_model_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source, out = tmp_path / "model", tmp_path / "out"
    model = quantised(source, "E2B")
    fuse(model, filled(model), source, out, "bf16")
    with monkeypatch.context() as patch:
        patch.setattr(shards.os, "pwrite", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            fuse(model, filled(model), source, out, "8bit", overwrite=True)
    assert "quantization" not in json.loads((out / "config.json").read_text())
    os.replace(out, tmp_path / ".out.gemma4-replaced")  # killed between two renames
    (tmp_path / ".out.gemma4-fusing").mkdir()
    (tmp_path / ".out.gemma4-fusing" / "half").write_text("")
    with pytest.raises(TakenError, match="is not empty"):
        fuse(model, filled(model), source, out, "8bit")
    assert len(list(out.iterdir())) > 2
    fuse(model, filled(model), source, out, "8bit", overwrite=True)
    assert load_model(out) and sorted(os.listdir(tmp_path)) == ["model", "out"]
    assert len(list(out.glob("*.safetensors"))) == 1


def test_what_is_no_model_is_not_replaced(tmp_path: Path):
    model = quantised(tmp_path / "model", "E2B")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    refused = "holds notes.txt, which neither fusing nor converting wrote: name another"
    for out, words in (("mine", refused), ("model", "model itself")):
        with pytest.raises(TakenError, match=words):
            fuse(
                *(model, filled(model), tmp_path / "model", tmp_path / out, "bf16"),
                overwrite=True,
            )
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_the_drafter_of_a_model_is_not_lost(tmp_path: Path):
    out, source = tmp_path / "out", tmp_path / "model"
    source.mkdir()
    (out / "assistant").mkdir(parents=True)
    (out / "conversion.json").write_text(json.dumps({"files": {}}))
    config = out / "assistant" / "config.json"
    told = {
        "gemma4_assistant": "holds assistant, the drafter .* lost: move assistant away",
        "gemma4": "holds assistant, which neither fusing nor converting wrote",
    }
    for kind, words in told.items():
        config.write_text(json.dumps({"model_type": kind}))
        with (
            pytest.raises(TakenError, match=words),
            replacing(out, source, overwrite=True),
        ):
            pass
    assert config.exists()


@pytest.mark.parametrize(
    ("record", "mine"),
    [
        *((None, "config.json"), ("fused.json", "README.md"), ("fused.json", "x.json")),
        *(("conversion.json", "notes.txt"), ("fused.json", None)),
        ("conversion.json", None),
    ],
)
def test_only_what_was_written_here_is_replaced(
    tmp_path: Path, record: str | None, mine: str | None
):
    source, out = tmp_path / "model", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    files = ["config.json", "model.safetensors"] if record else []
    if record:
        (out / record).write_text(json.dumps({"files": dict.fromkeys(files, "sum")}))
        files += ["README.md"] if record == "conversion.json" else []
    for name in (*files, ".DS_Store", *([mine] if mine else [])):
        (out / name).write_text("old")
    told = f"out holds {mine}, which neither fusing nor converting wrote"
    with pytest.raises(TakenError, match=told) if mine else nullcontext():
        with replacing(out, source, overwrite=True) as work:
            (work / "config.json").write_text("new")
    assert [f.name for f in out.iterdir() if f.read_text() == "new"] == (
        [] if mine else ["config.json"]
    )
    assert mine is None or (out / mine).read_text() == "old"


def test_a_folder_above_the_model_is_not_replaced(tmp_path: Path):
    outer = tmp_path / "outer"
    model = quantised(outer / "model", "E2B")
    (outer / "config.json").write_text("{}")
    with pytest.raises(TakenError, match="holds the model"):
        fuse(model, filled(model), outer / "model", outer, "bf16", overwrite=True)
    assert load_model(outer / "model")


def test_one_process_at_a_time_fuses_into_a_folder(tmp_path: Path):
    model = quantised(tmp_path / "model", "E2B")
    work = tmp_path / ".out.gemma4-fusing"
    work.mkdir()
    with closing(Hold(work)) as hold:
        hold.take()
        with pytest.raises(BusyError, match="is being written by another process"):
            fuse(model, filled(model), tmp_path / "model", tmp_path / "out", "bf16")
    assert work.is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["bf16", "8bit"])
@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
def test_pieces_and_files_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, form: str
):
    """A model that is cut into small pieces and many files is the same."""
    variant = "E2B" if kind == "dora" else "26B-A4B"
    tiny.write_checkpoint(tmp_path / "model", variant, tokenizer=True, **WIDE)
    model = load_model(tmp_path / "model")
    names = ("attention", "mlp") + (("experts",) if kind == "lora" else ())
    adapter = new_adapter(model, AdapterSettings(kind, 3, targets=names))
    before = dict(tree_flatten(model.parameters()))
    fuse(model, adapter, tmp_path / "model", tmp_path / "whole", form)
    monkeypatch.setattr(module, "PIECE", 200)
    monkeypatch.setattr(
        module, "lay_out", lambda groups, made_for: lay_out(groups, made_for, 20_000)
    )
    fuse(model, adapter, tmp_path / "model", tmp_path / "cut", form)
    assert len(list((tmp_path / "cut").glob("*.safetensors"))) > 3
    whole, cut = (read_tensors(tmp_path / name) for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    for name, tensor in whole.items():
        assert (tensor.dtype, tensor.shape) == (cut[name].dtype, cut[name].shape)
        a, b = (t.file.read_bytes()[t.offset :] for t in (tensor, cut[name]))
        assert a[: tensor.nbytes] == b[: tensor.nbytes], name
    after = dict(tree_flatten(model.parameters()))
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)


def test_what_fusing_refuses(tmp_path: Path):
    model = tiny.build("E2B")
    with pytest.raises(AdapterError, match="trained for its steps"):
        fuse(model, filled(model), tmp_path, tmp_path / "out", "4bit")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("")
    with pytest.raises(TakenError, match="is not empty"):
        fuse(model, filled(model), tmp_path, tmp_path / "full", "bf16")
