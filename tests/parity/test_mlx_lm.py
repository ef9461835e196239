"""Checkpoints that mlx-lm converts and quantises load here and give its logits."""

import importlib
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import layouts
import mlx.core as mx
import numpy as np
import pytest
import tiny

from mlx_gemma4 import load
from mlx_gemma4.checkpoint.load import load_model

# mlx-lm imports transformers, whose warnings are not ours.
pytestmark = pytest.mark.filterwarnings("ignore")

TOKENS = tiny.random_tokens(20, seed=3)
# Widths that mlx-lm's groups divide: the router has 64 whatever the others have.
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "moe_intermediate_size": 64,
    "hidden_size_per_layer_input": 32,
}


@pytest.fixture(scope="module")
def mlx_lm() -> ModuleType:
    try:
        return importlib.import_module("mlx_lm.utils")
    except ImportError as error:
        pytest.skip(f"mlx-lm cannot be imported here: {error}")


def save_quantised(
    mlx_lm: ModuleType, source: Path, target: Path, **how: Any
) -> np.ndarray:
    """What `mlx_lm.convert` does after reading the tokenizer; mlx-lm's logits."""
    vocabulary = json.loads((source / "config.json").read_text())
    vocabulary = vocabulary.get("text_config", vocabulary)["vocab_size"]
    # mlx-lm takes the top level's vocab_size, which real configs leave at its default.
    size = {"vocab_size": vocabulary}
    model, config = mlx_lm.load_model(source, model_config=size)
    model, config = mlx_lm.quantize_model(model, config, **how)
    mlx_lm.save_model(target, model)
    mlx_lm.save_config(config, target / "config.json")
    return np.array(model(mx.array([TOKENS]))[0].astype(mx.float32))


def no_tables(path: str, module: object) -> bool:
    """mlx-lm unpacks tables without floating scales to bfloat16, here they are float32:
    they would differ by the rounding."""
    return "embed" not in path


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        {"group_size": 32, "bits": 4},
        {"group_size": 64, "bits": 6},
        {"group_size": 32, "bits": 4, "mode": "mxfp4", "quant_predicate": no_tables},
    ],
    ids=["4-bit", "6-bit", "mxfp4"],
)
@pytest.mark.parametrize("variant", ["demo", "E2B", "26B-A4B", "text"])
def test_quantised_by_mlx_lm(
    mlx_lm: ModuleType, variant: str, how: dict[str, Any], tmp_path: Path
) -> None:
    tiny.write_checkpoint(tmp_path / "hub", variant, unused_kv=True, **SIZES)
    theirs = save_quantised(mlx_lm, tmp_path / "hub", tmp_path / "mlx", **how)
    model = load_model(tmp_path / "mlx")
    assert model.language_model.layers[0].self_attn.q_proj.bits == how["bits"]
    np.testing.assert_allclose(tiny.logits(model, TOKENS), theirs, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_converted_by_mlx_lm(
    mlx_lm: ModuleType, demo_folder: Path, tmp_path: Path
) -> None:
    """The whole `mlx_lm.convert -q`, on a text-only checkpoint with a tokenizer."""
    convert = importlib.import_module("mlx_lm").convert
    vocabulary = json.loads((demo_folder / "config.json").read_text())
    vocabulary = vocabulary["text_config"]["vocab_size"]
    text = {**SIZES, "enable_moe_block": True, "num_experts": 4, "top_k_experts": 2}
    text |= {"vocab_size": vocabulary, "vocab_size_per_layer_input": vocabulary}
    tiny.write_checkpoint(tmp_path / "hub", "text", **text)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(demo_folder / file, tmp_path / "hub" / file)
    target = tmp_path / "mlx"
    convert(str(tmp_path / "hub"), str(target), quantize=True, q_group_size=32)
    model, _ = mlx_lm.load_model(target)
    theirs = np.array(model(mx.array([TOKENS]))[0])
    assert any("switch_glu" in name for name in layouts.names(target))
    ours = tiny.logits(load_model(target), TOKENS)
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_mlx_lm_generates_with_our_model_and_processor(
    mlx_lm: ModuleType, demo_folder: Path
) -> None:
    """It ends where an answer does, not at the token limit."""
    model, processor = load(demo_folder)
    tokenizer = processor.for_mlx_lm()
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, enable_thinking=False
    )
    assert prompt == processor(messages).tokens[0].tolist()
    generate = importlib.import_module("mlx_lm").generate
    answer = "The capital of France is Paris."
    assert generate(model, tokenizer, prompt, max_tokens=20) == answer


def mixed(path: str, module: object) -> dict[str, Any] | bool:
    if "layers.1." in path:
        return False
    if ".mlp." in path:
        return {"group_size": 32, "bits": 8}
    return {"group_size": 64, "bits": 6} if "q_proj" in path else True


@pytest.mark.slow
def test_mixed_bits_whatever_config_says_of_them(
    mlx_lm: ModuleType, tmp_path: Path
) -> None:
    """Re-saves lose overrides, or repeat those of another conversion."""
    tiny.write_checkpoint(tmp_path / "hub", "demo", **SIZES)
    how = {"group_size": 32, "bits": 4, "quant_predicate": mixed}
    theirs = save_quantised(mlx_lm, tmp_path / "hub", tmp_path / "mlx", **how)
    path = tmp_path / "mlx" / "config.json"
    config = json.loads(path.read_text())
    stated = config["quantization"]
    modules = {key: how for key, how in stated.items() if "." in key}
    assert modules
    for quantization in (
        stated,
        {"group_size": 32, "bits": 4},
        {"group_size": 128, "bits": 2, "mode": "mxfp8", "quant_method": "mlx"},
        {"group_size": 32, "bits": 4, **dict.fromkeys(modules, False)},
        {
            key.removeprefix("language_model."): {"bits": 3, "group_size": 16}
            for key in modules
        },
        {},
    ):
        config["quantization"] = config["quantization_config"] = quantization
        path.write_text(json.dumps(config))
        model = load_model(tmp_path / "mlx")
        layer = model.language_model.layers[0]
        assert (layer.mlp.up_proj.bits, layer.self_attn.q_proj.bits) == (8, 6)
        logits = tiny.logits(model, TOKENS)
        np.testing.assert_allclose(logits, theirs, atol=1e-4, rtol=0)
