"""PEFT's own adapters compute what they compute there."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import golden
import mlx.core as mx
import numpy as np
import pytest
import tiny
import tiny_media
from adapting import Tensors, change_folder
from places import FIXTURES, REAL

from mlx_gemma4.model import Gemma4
from mlx_gemma4.tune.adapter_files import load_floats
from mlx_gemma4.tune.adapters import AdapterSettings, new_adapter, put_on
from mlx_gemma4.tune.errors import AdapterError, AdapterWarning
from mlx_gemma4.tune.formats import read_adapter, write_adapter
from mlx_gemma4.tune.peft import write_peft

FOLDER = FIXTURES / "adapters"
LOGITS = golden.arrays("adapters/logits")
VARIANTS = {
    **{"linear": "E2B", "patterns": "E2B", "dora": "E4B", "layers": "31B"},
    **{"all-linear": "text", "experts": "26B-A4B", "one-of-experts": "26B-A4B"},
    "experts-turned": "26B-A4B",
}
TOKENS = tiny.random_tokens(20, golden.SEED)


def logits(folder: Path, variant: str) -> np.ndarray:
    model = tiny.build(variant, golden.SEED)
    put_on(model, read_adapter(folder, model))
    return tiny.logits(model, TOKENS)


def test_every_case_is_tested():
    assert VARIANTS.keys() == LOGITS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("case", VARIANTS)
def test_logits(case: str):
    variant = VARIANTS[case]
    model = tiny.build(variant, golden.SEED)
    adapter = read_adapter(FOLDER / case, model)
    plain = tiny.logits(model, TOKENS)
    assert np.abs(plain - LOGITS[case]).max() > 0.05
    put_on(model, adapter)
    golden.check_logits(tiny.logits(model, TOKENS), LOGITS[case])


@pytest.mark.slow
@pytest.mark.parametrize("case", VARIANTS)
@pytest.mark.parametrize("form", ["peft", "mlx"])
def test_written_again(case: str, form: str, tmp_path: Path):
    model = tiny.build(VARIANTS[case], golden.SEED)
    adapter = read_adapter(FOLDER / case, model)
    if form == "peft":
        write_peft(tmp_path, model, adapter, "base")
    else:
        write_adapter(tmp_path, model, adapter, {})
    golden.check_logits(logits(tmp_path, VARIANTS[case]), LOGITS[case])


def by_expert(tensors: Tensors) -> Tensors:
    """Columns of the experts' lora_B as Unsloth had them, of ranks 2 and 1."""
    ranks = {".base_layer": 2, "": 1}
    ends = {f"experts{end}.lora_B.weight": rank for end, rank in ranks.items()}
    changed = dict(tensors)
    for name, tensor in tensors.items():
        for end, rank in ends.items():
            if name.endswith(end):
                apart = tensor.reshape(tensor.shape[0], rank, -1)
                changed[name] = apart.swapaxes(1, 2).reshape(tensor.shape)
    return changed


UNSLOTH = {"auto_mapping": {"unsloth_fixed": True}}
BY_EXPERT = {"lora_B_layout": "grouped_by_expert"}


@pytest.mark.parametrize(
    "stated",
    [
        UNSLOTH | BY_EXPERT,
        BY_EXPERT,
        {
            "lora_B_layout": "rank_major",
            "unsloth_fused_expert_lora": {
                "parameters": {
                    "gate_up_proj": {**BY_EXPERT, "num_experts": 8},
                    "down_proj": {**BY_EXPERT, "num_experts": 8},
                }
            },
        },
    ],
)
def test_experts_of_unsloth(stated: dict[str, Any], tmp_path: Path):
    folder = change_folder(FOLDER / "experts", tmp_path, stated, by_expert)
    golden.check_logits(logits(folder, "26B-A4B"), LOGITS["experts"])


def test_an_order_of_experts_that_nobody_states_is_refused(tmp_path: Path):
    folder = change_folder(FOLDER / "experts", tmp_path / "a", UNSLOTH, by_expert)
    words = 'states no lora_B_layout.*add "lora_B_layout": "grouped_by_expert"'
    with pytest.raises(AdapterError, match=words):
        logits(folder, "26B-A4B")
    other = {"lora_B_layout": "by_the_moon"}
    folder = change_folder(FOLDER / "experts", tmp_path / "b", other)
    with pytest.raises(AdapterError, match="lora_B_layout is 'by_the_moon'"):
        logits(folder, "26B-A4B")


@pytest.mark.parametrize("version, turned", [("0.19.0", True), ("0.19.1", False)])
def test_where_shapes_do_not_tell_inputs_from_outputs(
    version: str, turned: bool, tmp_path: Path
):
    """Gate and up of 16 outputs each, beside 32 inputs."""
    model = tiny.build("26B-A4B", moe_intermediate_size=16)
    adapted = "language_model.layers.1.experts.gate_up_proj"
    base = dict(model.named_modules())[adapted]
    count, outputs, inputs = base.weight.shape
    assert (count, outputs, inputs) == (8, 32, 32)
    a, b = (tiny.random_tensor(n, s, 1) for n, s in (("a", (16, 32)), ("b", (32, 16))))
    name = "base_model.model.model.language_model.layers.1.experts.lora_{}.weight"
    tensors = {name.format(k): mx.array(t) for k, t in (("A", a), ("B", b))}
    mx.save_safetensors(str(tmp_path / "adapter_model.safetensors"), tensors)
    config: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 2}
    config["target_parameters"] = ["experts.gate_up_proj"]
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(config))
    with pytest.raises(AdapterError, match="peft_version is null"):
        read_adapter(tmp_path, model)
    path.write_text(json.dumps(config | {"peft_version": version}))
    layer = read_adapter(tmp_path, model).layers[adapted]
    shape = "eio" if turned else "eoi"
    # PEFT's own words for it.
    delta = np.einsum(
        f"ore,eri->{shape}", b.reshape(outputs, 2, count), a.reshape(count, 2, inputs)
    )
    found = np.array(layer.merged() - base.weight)
    np.testing.assert_allclose(found, delta, atol=1e-5)


def test_kv_shared_layers(tmp_path: Path):
    """Trained where these layers have keys and values that nothing reads."""

    def with_unused(tensors: Tensors) -> Tensors:
        added = dict(tensors)
        for name, tensor in tensors.items():
            for layer in range(5, 10):
                if "layers.0.self_attn.k_proj" in name:
                    other = name.replace("layers.0", f"layers.{layer}")
                    added |= {other: tensor, other.replace("k_proj", "v_proj"): tensor}
        assert len(added) == len(tensors) + 5 * 2 * 2
        return added

    folder = change_folder(FOLDER / "linear", tmp_path / "a", {}, with_unused)
    words = r"k_proj and v_proj of KV-shared layers \(5-9\).*no effect and is left out"
    with pytest.warns(AdapterWarning, match=words):
        found = logits(folder, "E2B")
    golden.check_logits(found, LOGITS["linear"])


def test_an_adapter_of_nothing_but_those_is_refused(tmp_path: Path):
    folder = change_folder(
        FOLDER / "linear",
        tmp_path,
        {},
        lambda tensors: {
            name.replace("layers.0.", "layers.7."): tensor
            for name, tensor in tensors.items()
            if "layers.0.self_attn.k_proj" in name
        },
    )
    with pytest.raises(AdapterError, match="nothing that this model computes"):
        logits(folder, "E2B")


SEEN = {  # of a multimodal base -> what a text-only conversion of it lacks
    "model.vision_tower.encoder.layers.0.self_attn.q_proj.linear": "vision",
    "model.embed_vision.embedding_projection": "vision",
    "model.audio_tower.layers.0.self_attn.q_proj.linear": "audio",
}
BESIDE = {"target_modules": r".*(_proj|linear|embedding_projection)"}


def seen(tensors: Tensors, module: str) -> Tensors:
    start = f"base_model.model.{module}.lora_"
    return {
        f"{start}{name.rpartition('lora_')[2]}": tensor
        for name, tensor in tensors.items()
        if "layers.0.self_attn.q_proj" in name
    }


@pytest.mark.slow
@pytest.mark.parametrize("module", SEEN)
def test_towers_that_the_model_lacks(module: str, tmp_path: Path):
    """Their part has no effect; nothing but that part is refused."""
    plain = change_folder(FOLDER / "linear", tmp_path / "plain", BESIDE)
    more = change_folder(
        plain, tmp_path / "more", {}, lambda tensors: tensors | seen(tensors, module)
    )
    ours = module.removeprefix("model.")
    words = f"{ours}, but .*no {SEEN[module]} tower.*no effect and is left out"
    with pytest.warns(AdapterWarning, match=words):
        found = logits(more, "E2B")
    np.testing.assert_array_equal(found, logits(plain, "E2B"))
    alone = change_folder(plain, tmp_path / "alone", {}, lambda t: seen(t, module))
    tower = module.split(".")[1]
    with pytest.raises(AdapterError, match=f"adapts {tower}, which this checkpoint"):
        logits(alone, "E2B")


def test_what_sees_without_a_tower_goes_by_the_reference_s_names(tmp_path: Path):
    """It is one module there, whatever the Hub's files call it."""
    model = Gemma4(tiny.Config.from_dict(tiny_media.config_dict("12B")))
    adapter = new_adapter(model, AdapterSettings(targets=("vision", "audio")), seed=1)
    write_peft(tmp_path, model, adapter, "base")
    modules = {
        name.removeprefix("base_model.model.model.").partition(".lora_")[0]
        for name in load_floats(tmp_path / "adapter_model.safetensors")
    }
    assert modules == {
        "embed_vision.patch_dense",
        "embed_vision.multimodal_embedder.embedding_projection",
        "embed_audio.embedding_projection",
    }
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    for module in modules:
        assert re.fullmatch(config["target_modules"], f"model.{module}")
    read = read_adapter(tmp_path, model).parameters()
    assert read.keys() == adapter.parameters().keys()
    for name, tensor in adapter.parameters().items():
        np.testing.assert_array_equal(read[name], tensor)


def test_what_12b_has_no_weights_for_is_left_out(tmp_path: Path):
    config = tiny_media.config_dict("12B")
    whole = Gemma4(tiny.Config.from_dict(config))
    adapter = new_adapter(whole, AdapterSettings(targets=("mlp", "vision")), seed=1)
    write_peft(tmp_path, whole, adapter, "base")
    blind = Gemma4(tiny.Config.from_dict(config | {"vision_config": None}))
    with pytest.warns(AdapterWarning, match="patch_dense.* has no vision embedder"):
        read = read_adapter(tmp_path, blind)
    assert read.layers and all("mlp" in path for path in read.layers)


def test_whole_parameters_of_towers_that_the_model_lacks(tmp_path: Path):
    model = tiny.build("E2B", golden.SEED)
    full = new_adapter(model, AdapterSettings("full"))
    more = full.weights | {"vision_tower.std_bias": mx.zeros(3)}
    write_adapter(tmp_path / "more", model, replace(full, weights=more), {})
    with pytest.warns(AdapterWarning, match="std_bias, but .* no vision tower"):
        found = read_adapter(tmp_path / "more", model)
    assert found.weights.keys() == full.weights.keys()
    only = {"vision_tower.std_bias": mx.zeros(3)}
    write_adapter(tmp_path / "only", model, replace(full, weights=only), {})
    with pytest.raises(AdapterError, match="std_bias is no parameter of this model"):
        read_adapter(tmp_path / "only", model)


def test_the_configuration_of_a_real_adapter(tmp_path: Path):
    """Of Unsloth's; its expression was not published, so here is one of theirs."""
    real = json.loads((REAL / "unsloth" / "gemma-4-31B-lora.json").read_text())
    real["target_modules"] = (
        r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn"
        r"|dense).*?(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj).*?)"
        r"|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:(?:q_proj|v_proj)))"
    )
    model = tiny.build("31B", golden.SEED)
    shutil.copytree(FOLDER / "layers", tmp_path / "a")
    tensors: Any = mx.load(str(tmp_path / "a" / "adapter_model.safetensors"))
    rank8 = {}
    for name, tensor in tensors.items():
        zeros = mx.zeros((7, tensor.shape[1]) if "lora_A" in name else (len(tensor), 7))
        rank8[name] = mx.concatenate([tensor, zeros], axis=int("lora_B" in name))
    mx.save_safetensors(str(tmp_path / "a" / "adapter_model.safetensors"), rank8)
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(real))
    read = read_adapter(tmp_path / "a", model)
    assert (read.kind, read.rank, read.scale) == ("lora", 8, 2.0)
    assert len(read.layers) == len(tensors) // 2
