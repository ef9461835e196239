"""Counts, widths and towers of config.json that the stored tensors contradict."""

import copy
import sys
from pathlib import Path
from typing import Any

import layouts
import mlx.core as mx
import numpy as np
import pytest
import real
import tiny
import tiny_media

from mlx_gemma4.checkpoint.files import StoredTensor
from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.checkpoint.names import BOUNDS
from mlx_gemma4.checkpoint.plan import MissingTowerWarning, plan_load
from mlx_gemma4.config import Config, ConfigWarning
from mlx_gemma4.convert import check, job, output
from mlx_gemma4.convert.survey import Wishes
from mlx_gemma4.errors import CheckpointError

TOKENS = tiny.random_tokens(12, seed=3)


@pytest.fixture
def nothing_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever builds a model fails: an absurd one takes minutes and gigabytes."""
    for module in ("mlx_gemma4.checkpoint.plan", "mlx_gemma4.model"):
        monkeypatch.setattr(sys.modules[module], "Gemma4", None)


def headers(name: str) -> dict[str, StoredTensor]:
    return {
        n: StoredTensor(n, Path("model.safetensors"), dtype, shape)
        for n, (dtype, shape) in real.tensors(name).items()
    }


def with_layers(config: dict[str, Any], count: int) -> dict[str, Any]:
    """So many layers, in the pattern of the real ones, the last of them full."""
    text = config["text_config"]
    kinds = text["layer_types"]
    period = kinds.index("full_attention") + 1
    text["layer_types"] = (kinds[:period] * count)[-count:]
    text["num_hidden_layers"] = count
    text["num_kv_shared_layers"] = min(text["num_kv_shared_layers"], count // 2)
    return config


@pytest.mark.usefixtures("nothing_built")
@pytest.mark.parametrize("count", [100_000, 135, 40, 30, 10])
def test_a_wrong_count_of_layers(count: int) -> None:
    """Refused with both numbers."""
    config = Config.from_dict(with_layers(real.read("E2B"), count))
    stored = headers("E2B")
    with pytest.raises(
        CheckpointError,
        match=rf"text_config.num_hidden_layers in config.json is {count}, but the "
        "tensors are of 35 layers: ",
    ) as caught:
        plan_load(config, stored)
    first = "no language_model.layers.35 is" if count > 35 else f"layers.{count} is"
    assert f"{first} there" in str(caught.value)


def changed(name: str, key: str, value: int) -> dict[str, Any]:
    config = copy.deepcopy(real.read(name))
    section, _, field = key.partition(".")
    config[section][field] = value
    return config


@pytest.mark.usefixtures("nothing_built")
@pytest.mark.parametrize(
    ("name", "key", "value", "stored"),
    [
        ("E2B", "vision_config.num_hidden_layers", 100_000_000, "16 layers"),
        ("E2B", "vision_config.num_hidden_layers", 15, "layers.15 is there"),
        ("E4B", "audio_config.num_hidden_layers", 100_000_000, "12 layers"),
        ("26B-A4B", "text_config.num_experts", 2**30, "has 128"),
        ("26B-A4B", "text_config.moe_intermediate_size", 2**29, "has 1408"),
        ("31B", "text_config.head_dim", 2**28, "has 256"),
        ("31B", "text_config.global_head_dim", 2**28, "has 512"),
        ("31B", "text_config.hidden_size", 2**30, "has 5376"),
        ("31B", "text_config.intermediate_size", 2**30, "has 21504"),
        ("31B", "text_config.num_attention_heads", 2**28, "has 16384"),
        ("E2B", "text_config.hidden_size_per_layer_input", 2**30, "has 256"),
        ("E2B", "vision_config.head_dim", 2**28, "has 64"),
        ("E2B", "vision_config.num_attention_heads", 12 * 2**24, "has 768"),
        ("E2B", "vision_config.intermediate_size", 2**30, "has 3072"),
        ("E2B", "vision_config.hidden_size", 2**30, "has 768"),
        ("E2B", "vision_config.patch_size", 2**20, "has 768"),
        ("E2B", "audio_config.hidden_size", 2**30, "has 1024"),
    ],
)
def test_an_absurd_size(name: str, key: str, value: int, stored: str) -> None:
    config = Config.from_dict(changed(name, key, value))
    with pytest.raises(CheckpointError, match=stored) as caught:
        plan_load(config, headers(name))
    assert key.partition(".")[2] in str(caught.value)


def test_single_experts_are_counted() -> None:
    config = tiny.config_dict("26B-A4B", num_experts=2**30)
    tensors = layouts.single_experts(layouts.random_arrays(tiny.config_dict("26B-A4B")))
    stored = {
        n: StoredTensor(n, Path("model.safetensors"), "F32", tuple(t.shape))
        for n, t in tensors.items()
        if "router" not in n
    }
    with pytest.raises(CheckpointError, match=r"num_experts .* is 1073741824, .*has 8"):
        plan_load(Config.from_dict(config), stored)


@pytest.mark.usefixtures("nothing_built")
def test_wherever_a_model_is_built(tmp_path: Path) -> None:
    config = tiny.config_dict("E2B")
    tensors = layouts.random_arrays(config)
    folder = layouts.save(tmp_path, with_layers(config, 10_000), tensors)
    for build in (
        lambda: load_model(folder),
        lambda: job.plan_folder(folder, Wishes(), "hub"),
        lambda: check.verify(folder),
    ):
        with pytest.raises(
            CheckpointError, match="is 10000, but the tensors are of 10"
        ):
            build()


KEPT = {  # what a conversion kept -> what it dropped
    "vision_tower": ("vision", "embed_vision"),
    "embed_vision": ("vision", "vision_tower"),
    "audio_tower": ("audio", "embed_audio"),
    "embed_audio": ("audio", "audio_tower"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kept", KEPT)
def test_a_tower_that_was_dropped_in_part(kept: str, tmp_path: Path) -> None:
    """It counts as missing, and what is left of it is said to be left out."""
    tower, dropped = KEPT[kept]
    config = tiny_media.config_dict("demo")
    tensors = {
        name: mx.array(t)
        for name, t in tiny_media.tensors(config, 0).items()
        if not name.startswith(f"model.{dropped}.")
    }
    for rename in (lambda name: name, layouts.converted):
        folder = layouts.save(tmp_path, config, layouts.renamed(tensors, rename))
        with pytest.warns(MissingTowerWarning) as said:
            model = load_model(folder)
        (text,) = (str(warning.message) for warning in said)
        assert f"no weights of {dropped}" in text and f"so the {tower} tower" in text
        assert kept in text
        assert getattr(model.config, f"{tower}_config") is None
    plan = job.plan_folder(folder, Wishes(), "hub")
    assert any(dropped in warning for warning in plan.warnings)
    assert plan.dropped and all(kept in t.source.name for t in plan.dropped)


@pytest.mark.parametrize("stack", ["vision_tower.encoder.layers", "audio_tower.layers"])
def test_a_tower_without_some_layers(stack: str, tmp_path: Path) -> None:
    config = tiny_media.config_dict("demo")
    tensors = {
        name: mx.array(t)
        for name, t in tiny_media.tensors(config, 0).items()
        if f"{stack}.1." not in name
    }
    folder = layouts.save(tmp_path, config, tensors)
    with pytest.raises(CheckpointError, match=f"no {stack}.1 is there"):
        load_model(folder)


def test_weights_of_a_tower_in_another_folder(tmp_path: Path) -> None:
    config = tiny_media.config_dict("demo")
    towers = ("model.vision_tower", "model.embed_vision")
    tensors = {
        name: mx.array(t)
        for name, t in tiny_media.tensors(config, 0).items()
        if not name.startswith(towers)
    }
    folder = layouts.save(tmp_path, config, tensors)
    (folder / "optiq").mkdir()
    (folder / "optiq" / "optiq_vision.safetensors").write_bytes(b"")
    match = r"vision tower.*optiq/optiq_vision\.safetensors may have them.*not read"
    with pytest.warns(MissingTowerWarning, match=match):
        load_model(folder)


@pytest.mark.parametrize("dropped", ["vision", "audio"])
def test_what_sees_and_hears_without_a_tower_may_be_dropped(
    dropped: str, tmp_path: Path
) -> None:
    config = tiny_media.config_dict("12B")
    parts = ("model.vision_", f"model.embed_{dropped}")[dropped == "audio" :]
    tensors = {
        name: mx.array(t)
        for name, t in tiny_media.tensors(config, 0).items()
        if not name.startswith(parts)
    }
    folder = layouts.save(tmp_path, config, tensors)
    with pytest.warns(MissingTowerWarning, match=f"the {dropped} embedder that"):
        model = load_model(folder)
    found = {"vision": model.config.vision_config, "audio": model.config.audio_config}
    assert [kind for kind, section in found.items() if section is None] == [dropped]


def without_bounds(dropped: str) -> tuple[dict[str, Any], dict[str, mx.array]]:
    """Two towers that clip, and their tensors less the bounds that start so."""
    config = tiny_media.config_dict("demo")
    tensors = {
        name: mx.array(t)
        for name, t in tiny_media.tensors(config, 0).items()
        if not (name.endswith(BOUNDS) and name.startswith(f"model.{dropped}"))
    }
    return config, tensors


@pytest.mark.parametrize("tower", ["vision", "audio"])
def test_a_tower_without_bounds_does_not_clip(tower: str, tmp_path: Path) -> None:
    config, tensors = without_bounds(f"{tower}_tower")
    key, other = f"{tower}_config", {"vision": "audio", "audio": "vision"}[tower]
    for rename in (lambda name: name, layouts.converted):
        folder = layouts.save(tmp_path, config, layouts.renamed(tensors, rename))
        with pytest.warns(ConfigWarning, match=f"{key} of .* hold no bounds") as said:
            model = load_model(folder)
        assert len(said) == 1
        assert not getattr(model.config, key).use_clipped_linears
        assert getattr(model.config, f"{other}_config").use_clipped_linears
    plan = job.plan_folder(folder, Wishes(), "hub")
    assert plan.unclipped == (key,)
    assert not output.out_config(config, plan)[key]["use_clipped_linears"]


@pytest.mark.parametrize("tower", ["vision_tower", "audio_tower"])
def test_a_tower_without_some_bounds(tower: str, tmp_path: Path) -> None:
    layer = {"vision_tower": "encoder.layers.1", "audio_tower": "layers.1"}[tower]
    folder = layouts.save(tmp_path, *without_bounds(f"{tower}.{layer}."))
    for build in (load_model, lambda f: job.plan_folder(f, Wishes(), "hub")):
        with pytest.raises(CheckpointError, match=rf"missing {tower}.*put_m"):
            build(folder)


@pytest.mark.parametrize("key", ["pad_token_id", "bos_token_id", "eos_token_id"])
def test_token_ids_that_are_null(key: str, tmp_path: Path) -> None:
    config = tiny.config_dict("E2B")
    config[key] = config["text_config"][key] = None
    folder = layouts.save(tmp_path, config, layouts.random_arrays(config))
    logits = tiny.logits(load_model(folder), TOKENS)
    np.testing.assert_array_equal(logits, tiny.logits(tiny.build("E2B"), TOKENS))
