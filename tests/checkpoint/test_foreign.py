"""What other programs write around or in place of weights."""

from pathlib import Path
from typing import Any

import layouts
import mlx.core as mx
import numpy as np
import pytest
import tiny

from mlx_gemma4.checkpoint.files import StoredTensor, read_tensors
from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.checkpoint.names import Place, place, unwrapped
from mlx_gemma4.checkpoint.plan import plan_load, read_headers
from mlx_gemma4.config import Config, ConfigWarning
from mlx_gemma4.convert import job, output
from mlx_gemma4.convert.survey import Wishes
from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.tune.stated import our_place

TOKENS = tiny.random_tokens(12, seed=3)
Q = "language_model.layers.0.self_attn.q_proj.weight"
FOUR = {"bits": 4, "group_size": 32}
PREFIXES = (
    "_orig_mod.",
    "module.",
    "base_model.model.",
    "module._orig_mod.",
    "_orig_mod.module.module.",
    "base_model.model.base_model.model.",
    "module.base_model.model._orig_mod.",
    "_fsdp_wrapped_module.",
)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", [f"model.{Q}", Q, "language_model.model" + Q[14:]])
def test_wrappers_around_a_model(prefix: str, name: str) -> None:
    assert place(prefix + name) == Place(Q)


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_checkpoint_wrapped_module"])
def test_wrappers_around_a_layer(wrapper: str) -> None:
    assert place(f"model.{Q}".replace("layers.0", f"layers.0.{wrapper}")) == Place(Q)


@pytest.mark.parametrize("variant", ["demo", "text", "untied"])
@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.base_model.model."])
def test_a_whole_state_dict_with_a_prefix(
    variant: str, prefix: str, tmp_path: Path
) -> None:
    """It loads, and it converts to what the plain one does."""
    config = tiny.config_dict(variant)
    tensors = layouts.random_arrays(config, unused_kv=True)
    renamed = layouts.renamed(tensors, lambda name: prefix + name)
    folder = layouts.save(tmp_path / "in", config, renamed)
    logits = tiny.logits(load_model(folder), TOKENS)
    np.testing.assert_array_equal(logits, tiny.logits(tiny.build(variant), TOKENS))
    plain = layouts.save(tmp_path / "plain", config, tensors)
    plans = [job.plan_folder(f, Wishes(), "hub") for f in (folder, plain)]
    targets = [{t for x in plan.tensors for t in x.all_targets} for plan in plans]
    assert targets[0] == targets[1]


@pytest.mark.parametrize(
    "names",
    [
        ("base_model.model.model.{}.base_layer.weight",),
        ("base_model.model.model.{}.lora_A.default.weight",),
        ("model.{}.weight", "model.{}.lora_a"),
        ("model.{}.weight", "model.{}.lora_magnitude_vector"),
        ("model.{}.modules_to_save.default.weight", "model.{}.original_module.weight"),
    ],
)
def test_an_adapter_that_is_not_merged(names: tuple[str, ...], tmp_path: Path) -> None:
    config = tiny.config_dict("E2B")
    tensors = layouts.random_arrays(config)
    weight = tensors.pop(f"model.{Q}")
    for name in names:
        tensors[name.format(Q.removesuffix(".weight"))] = weight
    folder = layouts.save(tmp_path, config, tensors)
    for build in (load_model, lambda f: job.plan_folder(f, Wishes(), "hub")):
        with pytest.raises(
            CheckpointError, match=r"adapter that is not merged.*merge_"
        ):
            build(folder)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["quantization", "quantization_config"])
@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"quant_method": "mlx"}, ""),
        ({"quant_method": None, "sym": False, "note": ""}, ""),
        ({"unknown": 3}, "unknown"),
        ({"weights": {"num_bits": 8}, "sym": True}, "sym.*weights"),
        ({"lm_head": False, "model.embed_tokens": True}, ""),
    ],
)
def test_foreign_keys_beside_mlx_settings(
    key: str, stated: dict[str, Any], said: str, tmp_path: Path
) -> None:
    config = tiny.config_dict("31B", intermediate_size=64)
    packed, plain = layouts.packed(layouts.random_arrays(config), lambda _: FOUR)
    expected = load_model(layouts.save(tmp_path / "plain", config, plain))
    folder = layouts.save(tmp_path / "mlx", {**config, key: {**FOUR, **stated}}, packed)
    if said:
        with pytest.warns(ConfigWarning, match=said):
            model = load_model(folder)
    else:
        model = load_model(folder)
    logits = [tiny.logits(m, TOKENS) for m in (model, expected)]
    np.testing.assert_allclose(*logits, atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"quant_method": "bitsandbytes"}, "'bitsandbytes', which is not read"),
        ({"quant_method": "awq", "bits": 4}, "'awq', which is not read"),
        ({"quant_method": "gptq", "bits": 4}, "'gptq'"),
        ({"quant_method": "fp8", "fmt": "e4m3"}, "'fp8'"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, r"'modelopt' \(NVFP4\)"),
        ({"quant_method": "auto-round"}, "'auto-round'"),
        ({"quant_method": ["x"]}, r"\['x'\]"),
        (
            {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"},
            r"'compressed-tensors' \(nvfp4-pack-quantized\), which is not read",
        ),
    ],
)
def test_other_programs_packings(stated: dict[str, Any], said: str) -> None:
    config = tiny.config_dict("E2B")
    tensors = {Q: StoredTensor(Q, Path("model.safetensors"), "U8", (4, 4))}
    with pytest.raises(CheckpointError, match=f"{said}.*unquantised original"):
        plan_load(Config.from_dict({**config, "quantization_config": stated}), tensors)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["quantization", "quantization_config"])
@pytest.mark.parametrize(
    "stated",
    [
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"quant_method": "awq", "bits": 4},
        {"quant_method": "compressed-tensors", "format": "pack-quantized"},
        {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"},
        {"quant_method": "gemma", "num_bits": 4},
    ],
)
def test_a_packing_that_is_stated_of_plain_weights(
    key: str, stated: dict[str, Any], tmp_path: Path
) -> None:
    """As a merge into an unpacked base leaves it: both read what is there."""
    config = tiny.config_dict("E2B")
    tensors = layouts.random_arrays(config)
    folder = layouts.save(tmp_path / "in", {**config, key: stated}, tensors)
    said = rf"quantised by '{stated['quant_method']}'.*all its tensors are plain"
    with pytest.warns(ConfigWarning, match=said):
        logits = tiny.logits(load_model(folder), TOKENS)
    np.testing.assert_array_equal(logits, tiny.logits(tiny.build("E2B"), TOKENS))
    with pytest.warns(ConfigWarning, match=said):
        plan = job.plan_folder(folder, Wishes("bf16"), "hub")
    assert plan.qat is None
    assert key not in output.out_config({**config, key: stated}, plan)


@pytest.mark.parametrize(
    "stated",
    [
        {"quant_method": "compressed-tensors", "format": "pack-quantized"},
        {"quant_method": "gemma", "num_bits": 4},
    ],
)
def test_google_packed_layouts_are_to_be_converted(
    stated: dict[str, Any], tmp_path: Path
) -> None:
    config = {**tiny.config_dict("E2B"), "quantization_config": stated}
    tensors = layouts.random_arrays(config)
    tensors[f"model.{Q.replace('weight', 'weight_scale')}"] = mx.zeros((4, 4))
    folder = layouts.save(tmp_path / "ct", config, tensors)
    with pytest.raises(CheckpointError, match=rf"`gemma4 convert {folder} OUT`"):
        plan_load(*read_headers(folder))


@pytest.mark.parametrize(
    ("part", "program"),
    [
        ("qweight", "AWQ or GPTQ"),
        ("weight.absmax", "bitsandbytes"),
        ("weight_packed", "compressed-tensors"),
        ("weight_scale_inv", "FP8 or FP4"),
    ],
)
def test_packed_weights_that_config_does_not_speak_of(
    part: str, program: str, tmp_path: Path
) -> None:
    config = tiny.config_dict("E2B")
    tensors = layouts.random_arrays(config)
    name = f"model.{Q}".replace("weight", part)
    tensors[name] = mx.zeros((4, 4), mx.uint8)
    folder = layouts.save(tmp_path, config, tensors)
    with pytest.raises(CheckpointError, match=f"{name}, U8 .*{program} has packed"):
        plan_load(Config.from_dict(config), read_tensors(folder))


@pytest.mark.parametrize("prefix", PREFIXES)
def test_wrappers_around_what_an_adapter_adapts(prefix: str) -> None:
    """The same are taken off names of adapters."""
    end = f"{Q.removesuffix('weight')}lora_A.weight"
    assert unwrapped(f"{prefix}model.{end}") == f"model.{end}"
    assert our_place(f"{prefix}model.{Q}") == Place(Q)
