"""Adapters of a model: their targets, exchange and files."""

import json
import re
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import tiny
import tiny_media
from adapting import filled, quantised, take_off
from mlx.utils import tree_flatten

from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.model import Gemma4
from mlx_gemma4.tune.adapters import (
    Adapter,
    AdapterSettings,
    new_adapter,
    put_on,
)
from mlx_gemma4.tune.errors import AdapterError
from mlx_gemma4.tune.formats import read_adapter, write_adapter
from mlx_gemma4.tune.peft import write_peft
from mlx_gemma4.tune.targets import find_targets

TOKENS = tiny.random_tokens(20, 3)


def with_adapter(model: Gemma4, adapter: Adapter) -> np.ndarray:
    put_on(model, adapter)
    try:
        return tiny.logits(model, TOKENS)
    finally:
        take_off(model, adapter)


@pytest.mark.parametrize("variant", ["E2B", "E4B", "26B-A4B", "31B"])
def test_the_default_targets(variant: str):
    model = tiny.build(variant)
    paths = find_targets(model)
    kinds = {path.split(".", 3)[3] for path in paths}
    attention = {f"self_attn.{x}_proj" for x in "qkvo"}
    assert kinds == attention | {f"mlp.{x}_proj" for x in ("gate", "up", "down")}
    layers = model.config.text_config.num_hidden_layers
    last = find_targets(model, last_layers=2)
    assert {int(path.split(".")[2]) for path in last} == {layers - 2, layers - 1}
    assert [p for p in paths if p in last] == list(last)


def test_targets_that_are_asked_for():
    model = Gemma4(tiny.Config.from_dict(tiny_media.config_dict("26B-A4B")))
    assert {p.split(".")[-1] for p in find_targets(model, ["experts"])} == {
        "gate_up_proj",
        "down_proj",
    }
    seen = list(find_targets(model, ["vision"]))
    assert "embed_vision.embedding_projection" in seen and len(seen) == 2 * 7 + 1
    heard = list(find_targets(model, ["audio"]))
    assert "audio_tower.output_proj" in heard and len(heard) == 2 * 10 + 2
    with pytest.raises(AdapterError, match="no target 'router'"):
        find_targets(model, ["router"])
    with pytest.raises(AdapterError, match="nothing to adapt as 'experts'"):
        find_targets(tiny.build("E2B"), ["experts"])


def test_what_sees_and_hears_without_towers():
    model = Gemma4(tiny.Config.from_dict(tiny_media.config_dict("12B")))
    seen = ["embed_vision.embedding_projection", "vision_embedder.patch_dense"]
    heard = "embed_audio.embedding_projection"
    assert sorted(find_targets(model, ["vision"])) == seen
    assert list(find_targets(model, ["audio"])) == [heard]
    settings = AdapterSettings("full", targets=("vision", "audio"))
    learned = new_adapter(model, settings).weights
    own = {name for name in learned if not name.startswith("language_model.")}
    parts = ("vision_embedder.", "embed_")
    every = {name for name, _ in tree_flatten(model.parameters())}
    assert own == {name for name in every if name.startswith(parts)}
    assert "vision_embedder.pos_embedding" in own


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_a_new_adapter_changes_nothing(kind: Any):
    model = tiny.build("E2B")
    before = tiny.logits(model, TOKENS)
    adapter = new_adapter(model, AdapterSettings(kind, 4))
    np.testing.assert_allclose(with_adapter(model, adapter), before, atol=2e-5)
    same = new_adapter(model, AdapterSettings(kind, 4))
    other = new_adapter(model, AdapterSettings(kind, 4), seed=1)
    name = "language_model.layers.0.self_attn.q_proj.lora_a"
    a, b, c = (x.parameters()[name] for x in (adapter, same, other))
    assert mx.array_equal(a, b) and not mx.array_equal(a, c)


def test_several_adapters_are_switched():
    model = tiny.build("26B-A4B")
    names = {name for name, _ in tree_flatten(model.parameters())}
    plain = tiny.logits(model, TOKENS)
    one, two = filled(model), filled(model, "lora", "experts", seed=2)
    first, second = with_adapter(model, one), with_adapter(model, two)
    np.testing.assert_array_equal(with_adapter(model, one), first)
    np.testing.assert_array_equal(tiny.logits(model, TOKENS), plain)
    gaps = [np.abs(a - b).max() for a, b in ((first, plain), (second, plain))]
    assert min(*gaps, np.abs(first - second).max()) > 0.01
    assert {name for name, _ in tree_flatten(model.parameters())} == names


CASES = [
    ("E2B", "lora", ()),
    ("E4B", "dora", ()),
    ("26B-A4B", "lora", ("attention", "experts")),
    ("text", "lora", ()),
]


@pytest.mark.slow
@pytest.mark.parametrize("variant, kind, targets", CASES)
def test_written_and_read(tmp_path: Path, variant: str, kind: Any, targets: Any):
    model = tiny.build(variant)
    adapter = filled(model, kind, *targets)
    write_adapter(tmp_path, model, adapter, {"model": "tiny"})
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["fine_tune_type"] == kind and config["model"] == "tiny"
    assert config["lora_parameters"]["scale"] == 1.5
    read = read_adapter(tmp_path, tiny.build(variant))
    assert (read.kind, read.rank, read.scale) == (kind, 3, 1.5)
    ours = adapter.parameters()
    assert ours.keys() == read.parameters().keys()
    assert all(mx.array_equal(ours[n], t) for n, t in read.parameters().items())
    np.testing.assert_array_equal(
        with_adapter(model, adapter), with_adapter(model, read)
    )


def test_full_weights_written_and_read(tmp_path: Path):
    model = tiny.build("26B-A4B")
    adapter = new_adapter(model, AdapterSettings("full"))
    write_adapter(tmp_path, model, adapter, {})
    read = read_adapter(tmp_path, model)
    assert read.kind == "full" and read.weights.keys() == adapter.weights.keys()
    assert all(mx.array_equal(adapter.weights[n], w) for n, w in read.weights.items())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # mlx-lm imports transformers
@pytest.mark.parametrize("variant, kind, targets", CASES[:3])
def test_mlx_lm_computes_the_same(
    tmp_path: Path, variant: str, kind: Any, targets: Any
):
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load_model as load_theirs

    if variant == "26B-A4B":
        targets = ("attention", "mlp", "experts")
    tiny.write_checkpoint(tmp_path / "model", variant)
    model = load_model(tmp_path / "model")
    adapter = filled(model, kind, *targets)
    write_adapter(tmp_path / "adapter", model, adapter, {})
    theirs, _ = load_theirs(tmp_path / "model", model_config={"vocab_size": 96})
    theirs = load_adapters(theirs, str(tmp_path / "adapter"))
    theirs.eval()
    expected = np.array(theirs(mx.array([TOKENS]))[0])
    np.testing.assert_allclose(with_adapter(model, adapter), expected, atol=1e-3)


def test_mlx_lms_own_experts_are_read(tmp_path: Path):
    """There gate and up have different input sides."""
    model = tiny.build("26B-A4B")
    name = "language_model.model.layers.1.experts.switch_glu.{}_proj.lora_{}"
    shapes = {"a": (8, 2, 32), "b": (8, 24, 2)}
    tensors = {
        name.format(half, side): mx.array(tiny.random_tensor(half + side, shape, 1))
        for half in ("gate", "up")
        for side, shape in shapes.items()
    }
    mx.save_safetensors(str(tmp_path / "adapters.safetensors"), tensors)
    config = {"lora_parameters": {"scale": 2.0, "rank": 2}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (layer,) = read_adapter(tmp_path, model).layers.values()
    halves = mx.split(layer.merged() - layer.linear.weight, 2, axis=1)
    for half, delta in zip(("gate", "up"), halves, strict=True):
        a, b = (tensors[name.format(half, side)] for side in "ab")
        np.testing.assert_allclose(np.array(delta), np.array(2 * b @ a), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["E2B", "text"])
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_peft_written_and_read(tmp_path: Path, variant: str, kind: Any):
    model = tiny.build(variant)
    adapter = filled(model, kind)
    write_peft(tmp_path, model, adapter, "google/gemma-4-E2B-it")
    tensors: Any = mx.load(str(tmp_path / "adapter_model.safetensors"))
    inner = "" if variant == "text" else "language_model."
    q = f"base_model.model.model.{inner}layers.0.self_attn.q_proj"
    assert tensors[f"{q}.lora_A.weight"].shape == (3, 32)
    read = read_adapter(tmp_path, model)
    np.testing.assert_array_equal(
        with_adapter(model, adapter), with_adapter(model, read)
    )


@pytest.mark.parametrize("variant", ["E2B", "text"])
def test_peft_with_ranks_of_single_modules(tmp_path: Path, variant: str):
    """PEFT finds a module by the end of its name, as `(.*\\.)?(pattern)$`."""
    model = tiny.build(variant)
    adapter = filled(model)
    small = [path for path in adapter.layers if path.endswith("1.self_attn.q_proj")]
    for path in small:
        layer = adapter.layers[path]
        layer.lora_a, layer.lora_b = layer.lora_a[:, :2], layer.lora_b[:2]
    write_peft(tmp_path, model, adapter, "base")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    tensors: Any = mx.load(str(tmp_path / "adapter_model.safetensors"))
    ends = r"(.*\.)?({})$"
    found = 0
    for name, tensor in tensors.items():
        if not name.endswith(".lora_A.weight"):
            continue
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        assert re.match(config["target_modules"] + "$", module)
        own = {"rank_pattern": config["r"], "alpha_pattern": config["lora_alpha"]}
        for key, usual in own.items():
            stated = [
                v for k, v in config[key].items() if re.match(ends.format(k), module)
            ]
            own[key] = stated[0] if stated else usual
            found += len(stated)
        assert tensor.shape[0] == own["rank_pattern"]
        assert own["alpha_pattern"] / own["rank_pattern"] == adapter.scale
    assert found == 2 * len(small) == 2
    read = read_adapter(tmp_path, model)
    np.testing.assert_array_equal(
        with_adapter(model, adapter), with_adapter(model, read)
    )


def test_peft_scales_of_single_modules(tmp_path: Path):
    model = tiny.build("E2B")
    adapter = filled(model)
    write_peft(tmp_path, model, adapter, "base")
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text()) | {"alpha_pattern": {"q_proj": 9.0}}
    path.write_text(json.dumps(config))
    read = read_adapter(tmp_path, model)
    for name, layer in read.layers.items():
        own = 2.0 if name.endswith("q_proj") else 1.0  # 9 / 3 instead of 1.5
        delta = layer.scale * layer.lora_a @ layer.lora_b
        before = adapter.layers[name]
        expected = own * before.scale * before.lora_a @ before.lora_b
        np.testing.assert_allclose(np.array(delta), np.array(expected), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change, words",
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"bias": "some"}, "bias is 'some'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is"),
    ],
)
def test_peft_that_computes_otherwise_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
):
    model = tiny.build("E2B")
    write_peft(tmp_path, model, filled(model), "base")
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(AdapterError, match=words):
        read_adapter(tmp_path, model)
    full = new_adapter(model, AdapterSettings("full"))
    with pytest.raises(AdapterError, match="no form for an adapter of kind full"):
        write_peft(tmp_path, model, full, "base")


def test_adapters_that_do_not_fit(tmp_path: Path):
    model = tiny.build("E2B")
    with pytest.raises(AdapterError, match=r"has no adapter_config\.json"):
        read_adapter(tmp_path, model)
    write_adapter(tmp_path, model, filled(model), {})
    with pytest.raises(AdapterError, match="was made for another model"):
        read_adapter(tmp_path, tiny.build("31B"))
    (tmp_path / "adapters.safetensors").write_bytes(b"?")
    with pytest.raises(AdapterError, match="is truncated"):
        read_adapter(tmp_path, model)
    (tmp_path / "adapters.safetensors").unlink()
    with pytest.raises(AdapterError, match="is missing"):
        read_adapter(tmp_path, model)
    with pytest.raises(AdapterError, match="DoRA knows no experts"):
        new_adapter(
            tiny.build("26B-A4B"), AdapterSettings("dora", targets=("experts",))
        )


def test_full_training_needs_plain_weights(tmp_path: Path):
    model = quantised(tmp_path, "E2B")
    with pytest.raises(AdapterError, match="not quantised"):
        new_adapter(model, AdapterSettings("full"))
