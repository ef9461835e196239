"""The finished folder: who can load it, and what it says about itself."""

import importlib
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import jobs
import layouts
import mlx.core as mx
import numpy as np
import pytest
import tiny

from mlx_gemma4 import load
from mlx_gemma4.chat.tokenizer import Tokenizer
from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.convert import output
from mlx_gemma4.convert.errors import OutputError
from mlx_gemma4.errors import DiskFullError, TakenError

TOKENS = tiny.random_tokens(20, seed=3)
RECIPES = ("4bit", "8bit", "6bit", "3bit", "2bit", "mxfp4", "nvfp4", "mxfp8", "bf16")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jobs.source(tmp_path_factory.mktemp("hub"), unused_kv=True)


@pytest.fixture(scope="module")
def mlx_lm() -> ModuleType:
    try:
        return importlib.import_module("mlx_lm.utils")
    except ImportError as error:
        pytest.skip(f"mlx-lm cannot be imported here: {error}")


def unpacked(folder: Path, out: Path) -> Path:
    """A converted folder's weights as plain float32."""
    settings, stored = jobs.settings(folder), jobs.tensors(folder)
    default = {key: settings[key] for key in ("group_size", "bits", "mode")}
    plain: dict[str, mx.array] = {}
    for name, tensor in stored.items():
        module, _, kind = name.rpartition(".")
        if kind == "weight" and (scales := stored.get(f"{module}.scales")) is not None:
            how = default | (settings.get(module) or {})
            biases = stored.get(f"{module}.biases")
            if biases is not None:
                scales, biases = (a.astype(mx.float32) for a in (scales, biases))
            plain[name] = mx.dequantize(tensor, scales, biases, **how, dtype=mx.float32)
        elif kind not in ("scales", "biases"):
            plain[name] = tensor.astype(mx.float32)
    config = json.loads((folder / "config.json").read_text())
    for key in ("quantization", "quantization_config"):
        config.pop(key, None)
    return layouts.save(out, config, plain)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES[:-1])
def test_loads_here(recipe: str, source: Path, tmp_path: Path) -> None:
    jobs.convert(source, tmp_path / "out", recipe)
    model, processor = load(tmp_path / "out")
    assert processor.template is not None
    plain = load_model(unpacked(tmp_path / "out", tmp_path / "plain"))
    np.testing.assert_allclose(
        tiny.logits(model, TOKENS), tiny.logits(plain, TOKENS), atol=2e-4, rtol=0
    )


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["E2B", "26B-A4B", "31B", "untied"])
def test_bf16_changes_nothing(variant: str, tmp_path: Path) -> None:
    jobs.source(tmp_path / "hub", variant)
    jobs.convert(tmp_path / "hub", tmp_path / "out", "bf16")
    before, after = (load_model(tmp_path / folder) for folder in ("hub", "out"))
    assert np.array_equal(tiny.logits(before, TOKENS), tiny.logits(after, TOKENS))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # mlx-lm imports transformers: not ours
@pytest.mark.parametrize("recipe", ["4bit", "8bit", "bf16"])
@pytest.mark.parametrize("variant", ["demo", "E2B", "26B-A4B", "31B", "untied", "text"])
def test_loads_in_mlx_lm(
    mlx_lm: ModuleType, variant: str, recipe: str, tmp_path: Path
) -> None:
    hub, out = tmp_path / "hub", tmp_path / "out"
    jobs.source(hub, variant, tokenizer=False, unused_kv=True)
    jobs.convert(hub, out, recipe)
    model, _ = mlx_lm.load_model(out)
    model.set_dtype(mx.float32)
    theirs = np.array(model(mx.array([TOKENS]))[0])
    ours = tiny.logits(load_model(out), TOKENS)
    np.testing.assert_allclose(ours, theirs, atol=2e-4, rtol=0)


@pytest.mark.slow
def test_settings_name_every_path_that_differs(source: Path, tmp_path: Path) -> None:
    jobs.convert(source, tmp_path / "out", "4bit", "layers.1.mlp.down_proj=keep")
    settings = jobs.settings(tmp_path / "out")
    assert (settings["bits"], settings["group_size"]) == (4, 64)
    assert settings["language_model.model.embed_tokens"] == {
        "bits": 6,
        "group_size": 64,
        "mode": "affine",
    }
    assert settings["language_model.model.layers.1.mlp.down_proj"] is False
    assert "language_model.model.layers.0.mlp.up_proj" not in settings
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["quantization_config"] == settings
    assert config["dtype"] == "bfloat16"


def test_bf16_states_no_quantisation(source: Path, tmp_path: Path) -> None:
    jobs.convert(source, tmp_path / "out", "bf16")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "quantization" not in config and "quantization_config" not in config


def test_files_are_copied(source: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    shutil.copytree(source, hub)
    for name in ("processor_config.json", "special_tokens_map.json", "LICENSE"):
        (hub / name).write_text("{}")
    for name in ("pytorch_model.bin", "README.md", "quantize_config.json"):
        (hub / name).write_text("not this")
    (hub / "original").mkdir()
    jobs.convert(hub, tmp_path / "out")
    names = set(jobs.digests(tmp_path / "out"))
    copied = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    copied |= {"generation_config.json", "special_tokens_map.json", "LICENSE"}
    assert copied | {"processor_config.json", output.RECORD} <= names
    assert not {"pytorch_model.bin", "quantize_config.json", "original"} & names
    assert "not this" not in (tmp_path / "out" / "README.md").read_text()
    for name in copied:
        assert (tmp_path / "out" / name).read_bytes() == (hub / name).read_bytes()


def test_record(source: Path, tmp_path: Path) -> None:
    result = jobs.convert(source, tmp_path / "out")
    record = json.loads((tmp_path / "out" / output.RECORD).read_text())
    digests = jobs.digests(tmp_path / "out")
    for name, stated in record["files"].items():
        assert stated["sha256"] == digests[name]
        assert stated["bytes"] == (tmp_path / "out" / name).stat().st_size
    assert set(record["files"]) == set(digests) - {output.RECORD, output.CARD}
    assert record["recipe"] == "4bit" and record["source"] == "org/source"
    assert sum(line["bytes"] for line in record["classes"]) == result.plan.out_bytes


def test_the_tokenizer_is_read_once(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google's takes a second each time."""
    read, init = [], Tokenizer.__init__

    def counted(self: Tokenizer, folder: Path) -> None:
        read.append(folder)
        init(self, folder)

    monkeypatch.setattr(Tokenizer, "__init__", counted)
    jobs.convert(source, tmp_path / "out")
    assert read == [source]


def test_missing_files_are_reported(source: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    shutil.copytree(source, hub)
    for name in ("generation_config.json", "chat_template.jinja"):
        (hub / name).unlink()
    warnings = jobs.convert(hub, tmp_path / "out").plan.warnings
    assert any("generation_config.json" in warning for warning in warnings)
    assert any("chat template" in warning for warning in warnings)


@pytest.mark.slow
def test_stale_template_is_reported(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    from mlx_gemma4.chat import template as chat

    template = (source / "chat_template.jinja").read_bytes()
    digest = hashlib.sha256(template).hexdigest()
    monkeypatch.setattr(chat, "STALE_TEMPLATES", {digest})
    warnings = jobs.convert(source, tmp_path / "out").plan.warnings
    assert chat.STALE in warnings


@pytest.mark.slow
def test_finished_result_is_recognised(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert not jobs.convert(source, out).complete_before
    assert jobs.convert(source, out).complete_before
    with pytest.raises(TakenError, match="not empty"):
        jobs.convert(source, out, "8bit")


@pytest.mark.slow
def test_left_over_journal_is_removed(source: Path, tmp_path: Path) -> None:
    """As a crash between the last two steps leaves it."""
    out = tmp_path / "out"
    jobs.convert(source, out)
    output.partial(out).mkdir()
    assert jobs.convert(source, out).complete_before
    assert not output.partial(out).exists()


@pytest.mark.slow
def test_empty_folder_is_filled(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    jobs.convert(source, tmp_path / "out")
    assert (tmp_path / "out" / "config.json").is_file()


def test_targets_that_cannot_be(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(TakenError, match="no folder"):
            jobs.convert(source, tmp_path / name)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(TakenError, match="not empty"):
        jobs.convert(source, tmp_path / "full")
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep"


def test_unwritable_target(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not by permissions: root may write anywhere.
    monkeypatch.setattr(output.os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="cannot be written"):
        jobs.convert(source, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_small_disk_is_refused_before_any_work(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage: Any = shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000)
    monkeypatch.setattr(output.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFullError, match="too small"):
        jobs.convert(source, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    with pytest.raises(DiskFullError, match="of result and .* of download"):
        output.check_download(tmp_path / "out", 100, 950)
    output.check_download(tmp_path / "out", 100, 850)


def test_the_download_may_go_to_another_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = {"cache": 2000, "here": 150}

    def usage(path: Path) -> Any:
        return shutil._ntuple_diskusage(10**6, 0, free[path.name])

    places = {name: tmp_path / name for name in free}
    for place in places.values():
        place.mkdir()
    monkeypatch.setattr(output.shutil, "disk_usage", usage)
    monkeypatch.setattr(output, "_device", lambda path: path.name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", places["cache"] / "x")
    out = places["here"] / "out"
    output.check_download(out, 100, 1900)
    with pytest.raises(DiskFullError, match="MB of download do not fit"):
        output.check_download(out, 100, 2100)
    with pytest.raises(DiskFullError, match="MB of result do not fit"):
        output.check_download(out, 200, 100)
