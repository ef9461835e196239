"""Quantised checkpoints: every packing and override gives the model it stands for."""

from pathlib import Path
from typing import Any

import layouts
import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import tiny
from layouts import random_arrays

from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.errors import CheckpointError

TOKENS = tiny.random_tokens(20, seed=3)
# Sizes that every group size divides.
WIDE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 128,
    "moe_intermediate_size": 128,
    "hidden_size_per_layer_input": 128,
    "head_dim": 32,
    "num_attention_heads": 4,
}


def logits_of(folder: Path, **options: Any) -> np.ndarray:
    return tiny.logits(load_model(folder, **options), TOKENS)


PACKINGS = [
    *(
        {"bits": bits, "group_size": group, "mode": "affine"}
        for bits in (2, 3, 4, 5, 6, 8)
        for group in (32, 64, 128)
    ),
    {"bits": 4, "group_size": 32, "mode": "mxfp4"},
    {"bits": 8, "group_size": 32, "mode": "mxfp8"},
    {"bits": 4, "group_size": 16, "mode": "nvfp4"},
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "how", PACKINGS, ids=lambda how: "-".join(map(str, how.values()))
)
def test_every_packing_equals_its_dequantised_model(
    how: dict[str, Any], tmp_path: Path
) -> None:
    """Experts, both embedding tables and the router are packed as well."""
    config = tiny.config_dict("demo", **WIDE)
    tensors = layouts.split_experts(random_arrays(config))
    quantised, plain = layouts.packed(tensors, lambda _: how)
    assert "model.language_model.embed_tokens_per_layer.scales" in quantised
    expected = logits_of(layouts.save(tmp_path / "plain", config, plain))
    layouts.save(tmp_path / "packed", {**config, "quantization": how}, quantised)
    np.testing.assert_allclose(
        logits_of(tmp_path / "packed"), expected, atol=2e-4, rtol=0
    )


def test_fused_experts_may_be_quantised(tmp_path: Path) -> None:
    config = tiny.config_dict("26B-A4B", **WIDE | {"hidden_size_per_layer_input": 0})
    how = {"bits": 4, "group_size": 64}
    quantised, plain = layouts.packed(random_arrays(config), lambda _: how)
    expected = logits_of(layouts.save(tmp_path / "plain", config, plain))
    layouts.save(tmp_path / "packed", {**config, "quantization": how}, quantised)
    np.testing.assert_allclose(
        logits_of(tmp_path / "packed"), expected, atol=2e-4, rtol=0
    )


def mixed_settings(module: str) -> dict[str, Any] | None:
    """Four bits, but eight for the router, others for MLPs, and one layer left out."""
    if module.endswith("router.proj"):
        return {"bits": 8, "group_size": 64}
    if ".layers.1." in module:
        return None
    if ".mlp." in module:
        return {"bits": 8, "group_size": 32, "mode": "mxfp8"}
    return {"bits": 4, "group_size": 64}


@pytest.mark.parametrize("aliased", [False, True])
def test_overrides_by_path_in_the_converted_layout(
    aliased: bool, tmp_path: Path
) -> None:
    """mlx-vlm also writes override paths without their `language_model.`."""
    config = tiny.config_dict("demo", **WIDE)
    tensors = layouts.split_experts(random_arrays(config))
    tensors = layouts.renamed(tensors, layouts.converted)
    quantised, plain = layouts.packed(tensors, mixed_settings)
    modules = [n.removesuffix(".weight") for n in tensors if n.endswith("proj.weight")]
    overrides = {
        module.removeprefix("language_model.") if aliased else module: how
        for module in modules
        if (how := mixed_settings(module) or False) != {"bits": 4, "group_size": 64}
    }
    assert False in overrides.values() and len(overrides) > 10
    quantization = {"bits": 4, "group_size": 64, "mode": "affine", **overrides}
    stated = {**config, "quantization": quantization}
    model = load_model(layouts.save(tmp_path / "packed", stated, quantised))
    layers = model.language_model.layers
    assert isinstance(layers[0].router.proj, nn.QuantizedLinear)
    assert layers[0].router.proj.bits == 8 and layers[0].mlp.up_proj.mode == "mxfp8"
    assert type(layers[1].self_attn.q_proj) is nn.Linear
    expected = logits_of(layouts.save(tmp_path / "plain", config, plain))
    np.testing.assert_allclose(tiny.logits(model, TOKENS), expected, atol=2e-4, rtol=0)


def test_quantised_unused_keys_and_values_are_left_out(tmp_path: Path) -> None:
    config = tiny.config_dict("E2B", **WIDE | {"moe_intermediate_size": None})
    how = {"bits": 4, "group_size": 64}
    tensors = random_arrays(config, unused_kv=True)
    quantised, _ = layouts.packed(tensors, lambda _: how)
    last = "model.language_model.layers.9.self_attn.k_proj"
    assert f"{last}.scales" in quantised
    stated = {**config, "quantization": {**how, last: {"bits": 4, "group_size": 64}}}
    model = load_model(layouts.save(tmp_path, stated, quantised))
    assert "k_proj" not in model.language_model.layers[9].self_attn


@pytest.mark.parametrize("mode", ["mxfp4", "nvfp4", "mxfp8"])
def test_tables_without_floating_scales_follow_the_dtype(
    mode: str, tmp_path: Path
) -> None:
    config = tiny.config_dict("demo", **WIDE)
    quantised, plain = layouts.packed(
        random_arrays(config), lambda m: {"mode": mode} if "embed" in m else None
    )
    folder = layouts.save(
        tmp_path, {**config, "quantization": {"mode": mode}}, quantised
    )
    table = load_model(folder).language_model.embed_tokens
    expected = plain["model.language_model.embed_tokens.weight"][mx.array(TOKENS)]
    assert mx.array_equal(table(mx.array(TOKENS)), expected)
    half = load_model(folder, mx.float16).language_model.embed_tokens
    assert half(mx.array(TOKENS)).dtype == mx.float16


@pytest.mark.parametrize(("mode", "nan"), [("mxfp4", 255), ("nvfp4", 127)])
def test_one_byte_scales_that_are_nan(mode: str, nan: int, tmp_path: Path) -> None:
    config = tiny.config_dict("untied", **WIDE | {"hidden_size_per_layer_input": 0})
    quantised, _ = layouts.packed(random_arrays(config), lambda _: {"mode": mode})
    scales = np.array(quantised["lm_head.scales"])
    scales[3, 1] = nan
    quantised["lm_head.scales"] = mx.array(scales)
    folder = layouts.save(
        tmp_path, {**config, "quantization": {"mode": mode}}, quantised
    )
    with pytest.raises(
        CheckpointError, match="NaN or infinite values in lm_head.scales"
    ):
        load_model(folder)
