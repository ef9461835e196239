"""Loading: every layout and packing gives the model it stands for, and all of it."""

import json
import sys
from pathlib import Path
from typing import Any

import layouts
import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import tiny
import tiny_media
from mlx.utils import tree_flatten
from tiny_towers import AUDIO as TOWER_AUDIO
from tiny_towers import SAMPLES, SQUARES, VISION

from mlx_gemma4 import load as public_load
from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.checkpoint.plan import MissingTowerWarning
from mlx_gemma4.errors import CheckpointError

TOKENS = tiny.random_tokens(20, seed=3)


def logits_of(folder: Path, **options: Any) -> np.ndarray:
    return tiny.logits(load_model(folder, **options), TOKENS)


LAYOUTS = {
    "hub": lambda t: t,
    "mlx-lm": lambda t: layouts.renamed(layouts.split_experts(t), layouts.converted),
    "switch_mlp": lambda t: layouts.renamed(
        layouts.split_experts(t, ".switch_mlp"), layouts.converted
    ),
    "unfused": lambda t: layouts.renamed(
        layouts.split_experts(t, ".experts"),
        lambda n: n.removesuffix(".weight") if ".experts." in n else n,
    ),
    "single experts": layouts.single_experts,
    "own names": lambda t: layouts.renamed(t, tiny.parameter_name),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("variant", ["demo", "untied"])
def test_layouts_give_the_same_model(layout: str, variant: str, tmp_path: Path) -> None:
    config = tiny.config_dict(variant)
    tensors = LAYOUTS[layout](layouts.random_arrays(config))
    model = load_model(layouts.save(tmp_path, config, tensors))
    expected = tiny.logits(tiny.build(variant), TOKENS)
    np.testing.assert_array_equal(tiny.logits(model, TOKENS), expected)


@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_shards_and_unused_keys_and_values_change_nothing(
    variant: str, tmp_path: Path
) -> None:
    tiny.write_checkpoint(tmp_path, variant, shards=3, unused_kv=True)
    expected = tiny.logits(tiny.build(variant), TOKENS)
    np.testing.assert_array_equal(logits_of(tmp_path), expected)


def test_text_only_experts_in_mlx_lm_layout(tmp_path: Path) -> None:
    config = tiny.config_dict(
        "text", enable_moe_block=True, num_experts=4, top_k_experts=2
    ) | {"moe_intermediate_size": 24}
    tensors = layouts.random_arrays(config)
    hub = logits_of(layouts.save(tmp_path / "hub", config, tensors))
    split = layouts.split_experts(tensors)
    assert any(name.startswith("model.layers.0.experts.switch_glu") for name in split)
    mlx = logits_of(layouts.save(tmp_path / "mlx", config, split))
    np.testing.assert_array_equal(mlx, hub)


def test_float32_on_the_cpu_and_any_dtype_on_request(tmp_path: Path) -> None:
    config = tiny.config_dict("demo", hidden_size=64, intermediate_size=64)
    tensors = {
        n: t.astype(mx.bfloat16) for n, t in layouts.random_arrays(config).items()
    }
    how = {"bits": 4, "group_size": 64}
    quantised, _ = layouts.packed(tensors, lambda m: how if ".mlp." in m else None)
    folder = layouts.save(tmp_path, {**config, "quantization": how}, quantised)
    for dtype in (None, mx.float32, mx.bfloat16, mx.float16):
        parameters = dict(tree_flatten(load_model(folder, dtype).parameters()))
        found = {a.dtype for a in parameters.values()} - {mx.uint32}
        on_cpu = mx.default_device().type == mx.DeviceType.cpu
        assert found == {dtype or (mx.float32 if on_cpu else mx.bfloat16)}
    with pytest.raises(ValueError, match="dtype is .*int32; it must be float32"):
        load_model(folder, mx.int32)


TOWERS = {"vision": VISION["clipped"], "audio": TOWER_AUDIO["clipped"]}


@pytest.mark.parametrize("missing", [("vision",), ("audio",), ("vision", "audio")])
def test_missing_towers_are_said(missing: tuple[str, ...], tmp_path: Path) -> None:
    """A text-only conversion that kept the configuration of what it dropped."""
    config = tiny.config_dict("E2B")
    tensors = layouts.random_arrays(config)
    for name in missing:
        config[f"{name}_config"] = TOWERS[name]
    layouts.save(tmp_path / "hub", config, tensors)
    layouts.save(tmp_path / "mlx", config, layouts.renamed(tensors, layouts.converted))
    for folder in (tmp_path / "hub", tmp_path / "mlx"):
        with pytest.warns(MissingTowerWarning) as said:
            model = load_model(folder)
        assert len(said) == len(missing)
        for name, warning in zip(missing, said, strict=True):
            assert f"no weights of the {name} tower" in str(warning.message)
        logits = tiny.logits(model, TOKENS)
        np.testing.assert_array_equal(logits, tiny.logits(tiny.build("E2B"), TOKENS))


@pytest.mark.parametrize(("bits", "group_size"), [(4, 64), (8, 32)])
def test_what_sees_and_hears_without_a_tower_may_be_packed(
    bits: int, group_size: int, tmp_path: Path
) -> None:
    """As mlx-vlm's quantisation of every linear map leaves it, the biased one too."""
    square = {"patch_size": 8, "pooling_kernel_size": 2, "model_patch_size": 16}
    names = ("audio_embed_dim", "audio_samples_per_token", "hidden_size")
    config = tiny_media.config_dict("12B", hidden_size=64, intermediate_size=64)
    config["vision_config"] = {**SQUARES, **square, "mm_embed_dim": 64}
    config["vision_config"]["output_proj_dims"] = 64
    config["audio_config"] = {**SAMPLES, **dict.fromkeys(names, 64)}
    config["audio_config"]["output_proj_dims"] = 64
    how = {"bits": bits, "group_size": group_size}
    tensors, plain = layouts.packed(
        layouts.renamed(tiny_media.arrays(config, 0), layouts.converted),
        lambda module: None if module.endswith("pos_embedding") else how,
    )
    layouts.save(tmp_path / "packed", config | {"quantization": how}, tensors)
    layouts.save(tmp_path / "plain", config, plain)
    models = [load_model(tmp_path / name) for name in ("packed", "plain")]
    assert isinstance(models[0].vision_embedder.patch_dense, nn.QuantizedLinear)
    assert "bias" in models[0].vision_embedder.patch_dense
    for projector in (models[0].embed_vision, models[0].embed_audio):
        assert isinstance(projector.embedding_projection, nn.QuantizedLinear)
    prompt = tiny_media.prompt(config, seed=1)
    tokens = mx.array([prompt.tokens])
    found, wanted = (model(tokens, media=prompt.media) for model in models)
    assert np.abs(np.array(found) - np.array(wanted)).max() < 2e-4


def test_a_tower_without_configuration_is_refused(tmp_path: Path) -> None:
    config = tiny.config_dict("E2B")
    tensors = layouts.random_arrays(config)
    for name in ("vision_tower.a.weight", "audio_tower.c.input_max", "embed_audio.b"):
        extra = tensors | {f"model.{name}": mx.ones((2,))}
        folder = layouts.save(tmp_path / name, config, extra)
        with pytest.raises(CheckpointError, match=f"unexpected model.{name}"):
            load_model(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["mlp.up_proj.weight", "layer_scalar"])
def test_values_that_are_not_finite(name: str, value: float, tmp_path: Path) -> None:
    config = tiny.config_dict("E2B")
    tensors = layouts.random_arrays(config)
    full = f"model.language_model.layers.2.{name}"
    tensors[full] = mx.concatenate([tensors[full].flatten()[:-1], mx.array([value])])
    tensors[full] = tensors[full].reshape(tiny.tensor_shapes(config)[full])
    with pytest.raises(CheckpointError, match=f"NaN or infinite values in {full}"):
        load_model(layouts.save(tmp_path, config, tensors))


def test_large_but_finite_values_are_accepted(tmp_path: Path) -> None:
    """A sum that overflows float16 is no error; a value that does is one."""
    config = tiny.config_dict("31B")
    tensors = layouts.random_arrays(config)
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    tensors[name] = mx.full(tensors[name].shape, 60000.0)
    model = load_model(layouts.save(tmp_path, config, tensors), mx.float16)
    assert model.language_model.layers[0].mlp.up_proj.weight.max().item() == 60000
    tensors[name] = tensors[name] * 2
    with pytest.raises(CheckpointError, match="do not fit into .*float16"):
        load_model(layouts.save(tmp_path, config, tensors), mx.float16)


@pytest.mark.slow
@pytest.mark.parametrize("quantised", [False, True])
def test_no_second_copy_of_the_weights(
    quantised: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the files' tensors nor the model's untrained ones pile up."""
    sizes = {"hidden_size": 512, "intermediate_size": 1024}
    config = tiny.config_dict("31B", vocab_size=4096, **sizes)
    how = {"bits": 8, "group_size": 32}
    tensors = {
        n: t.astype(mx.bfloat16) for n, t in layouts.random_arrays(config).items()
    }
    if quantised:
        tensors, _ = layouts.packed(tensors, lambda _: how)
        config["quantization"] = how
    folder = layouts.save(tmp_path, config, tensors)
    del tensors
    monkeypatch.setattr(sys.modules["mlx_gemma4.checkpoint.fill"], "GROUP", 2**20)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    model = load_model(folder, mx.float32)
    peak = mx.get_peak_memory() - before
    final = sum(a.nbytes for a in dict(tree_flatten(model.parameters())).values())
    assert final > 14 * 2**20
    assert peak < 1.35 * final


def test_load_gives_model_and_processor(demo_folder: Path) -> None:
    model, processor = public_load(demo_folder)
    vocabulary = model.config.text_config.vocab_size
    inputs = processor([{"role": "user", "content": "Hello"}])
    assert model(inputs.tokens).shape == (1, inputs.tokens.shape[1], vocabulary)


def test_a_wrong_config_is_refused_before_any_tensor(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, "E2B")
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "text_config": {}}))
    with pytest.raises(CheckpointError, match="text_config in config.json: lacks"):
        load_model(tmp_path)
    path.write_text("{")
    with pytest.raises(CheckpointError, match="config.json is not valid JSON"):
        load_model(tmp_path)


def test_weights_that_do_not_fit_are_refused_before_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = tiny.write_checkpoint(tmp_path, "31B")
    needed = sum(tensor.size for tensor in tensors.values()) * 4
    module = sys.modules["mlx_gemma4.checkpoint.load"]
    monkeypatch.setattr(module, "memory_limit", lambda: needed)
    load_model(tmp_path)
    monkeypatch.setattr(module, "memory_limit", lambda: needed - 1)
    with pytest.raises(MemoryError, match="at most"):
        load_model(tmp_path)
    load_model(tmp_path, mx.float16)


def test_one_dtype_throughout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the embeddings' dtype holds for all: float32 would spread."""
    tiny.write_checkpoint(tmp_path, "E2B", dtype=mx.bfloat16)
    file = tmp_path / "model.safetensors"
    tensors = mx.load(str(file))
    assert isinstance(tensors, dict)
    name = "model.language_model.layers.0.layer_scalar"
    mx.save_safetensors(str(file), tensors | {name: tensors[name].astype(mx.float32)})
    module = sys.modules["mlx_gemma4.checkpoint.load"]
    monkeypatch.setattr(module.mx, "default_device", lambda: mx.Device(mx.gpu))
    model = load_model(tmp_path)
    parameters: Any = tree_flatten(model.parameters())
    assert {array.dtype for _, array in parameters} == {mx.bfloat16}
