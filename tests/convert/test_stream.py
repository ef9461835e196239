"""Streaming: what is written, in blocks of any size."""

from pathlib import Path

import jobs
import mlx.core as mx
import numpy as np
import pytest

from mlx_gemma4.checkpoint.packing import Packing
from mlx_gemma4.convert import fit
from mlx_gemma4.errors import CheckpointError

LAYER = "language_model.model.layers.0"
HUB = "model.language_model.layers.0"
FOUR = Packing(4, 64, "affine")  # 128 do not divide these inputs


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jobs.source(tmp_path_factory.mktemp("hub"), shards=2, unused_kv=True)


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of an undisturbed conversion."""
    out = tmp_path_factory.mktemp("whole") / "out"
    jobs.convert(source, out)
    return jobs.digests(out)


@pytest.mark.slow
def test_values(source: Path, tmp_path: Path) -> None:
    jobs.convert(source, tmp_path / "out")
    before, after = (jobs.tensors(f) for f in (source, tmp_path / "out"))
    up = before[f"{HUB}.mlp.up_proj.weight"]
    for part, array in fit.quantize(up, FOUR.bits, FOUR.group_size)._asdict().items():
        assert mx.array_equal(after[f"{LAYER}.mlp.up_proj.{part}"], array)
    table = before["model.language_model.embed_tokens.weight"]
    for array, part in zip(
        mx.quantize(table, 64, 6), ("weight", "scales", "biases"), strict=True
    ):
        name = f"language_model.model.embed_tokens.{part}"
        assert mx.array_equal(after[name], array)
    norm = "input_layernorm.weight"
    assert mx.array_equal(before[f"{HUB}.{norm}"], after[f"{LAYER}.{norm}"])
    assert after[f"{LAYER}.layer_scalar"].dtype == mx.bfloat16


def test_fused_experts_are_split(source: Path, tmp_path: Path) -> None:
    jobs.convert(source, tmp_path / "out", "4bit", "experts.*=keep")
    before, after = (jobs.tensors(f) for f in (source, tmp_path / "out"))
    fused = before[f"{HUB}.experts.gate_up_proj"]
    gate, up = mx.split(fused, 2, axis=-2)
    inner = f"{LAYER}.experts.switch_glu"
    assert mx.array_equal(after[f"{inner}.gate_proj.weight"], gate)
    assert mx.array_equal(after[f"{inner}.up_proj.weight"], up)
    down = before[f"{HUB}.experts.down_proj"]
    assert mx.array_equal(after[f"{inner}.down_proj.weight"], down)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [mx.float16, mx.float32])
def test_other_source_types(dtype: mx.Dtype, tmp_path: Path) -> None:
    jobs.source(tmp_path / "hub", "31B", dtype=dtype)
    jobs.convert(tmp_path / "hub", tmp_path / "out")
    before, after = (jobs.tensors(tmp_path / f) for f in ("hub", "out"))
    kept = mx.float16 if dtype == mx.float16 else mx.bfloat16
    assert after[f"{LAYER}.mlp.up_proj.scales"].dtype == kept
    norm = before[f"{HUB}.input_layernorm.weight"].astype(kept)
    assert mx.array_equal(after[f"{LAYER}.input_layernorm.weight"], norm)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["mxfp4", "nvfp4", "mxfp8", "6bit"])
def test_packings_are_those_of_mlx(recipe: str, source: Path, tmp_path: Path) -> None:
    jobs.convert(source, tmp_path / "out", recipe, block_bytes=5000)
    before, after = (jobs.tensors(f) for f in (source, tmp_path / "out"))
    how = jobs.plan(source, recipe)
    (packing,) = {
        t.packing for t in how.tensors if t.name == f"{HUB}.mlp.up_proj.weight"
    }
    assert packing
    arrays = mx.quantize(
        before[f"{HUB}.mlp.up_proj.weight"],
        packing.group_size,
        packing.bits,
        packing.mode,
    )
    for array, part in zip(arrays, ("weight", "scales", "biases"), strict=False):
        assert mx.array_equal(after[f"{LAYER}.mlp.up_proj.{part}"], array)


@pytest.mark.slow
@pytest.mark.parametrize(
    "block_bytes", [pytest.param(1, marks=pytest.mark.slow), 777, 5000, 2**30]
)
def test_any_block_size_gives_the_same_bytes(
    block_bytes: int, source: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    jobs.convert(source, tmp_path / "out", block_bytes=block_bytes)
    assert jobs.digests(tmp_path / "out") == whole


def test_progress_counts_all_bytes(source: Path, tmp_path: Path) -> None:
    counted: list[int] = []
    result = jobs.convert(source, tmp_path / "out", advance=counted.append)
    assert sum(counted) == result.plan.source_bytes


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16, mx.float32])
def test_damaged_weights_are_named(
    value: float, dtype: mx.Dtype, tmp_path: Path
) -> None:
    source = jobs.source(tmp_path / "hub", "31B", dtype=dtype)
    tensors = jobs.tensors(source)
    tensors[f"{HUB}.mlp.up_proj.weight"][3, 5] = value
    mx.save_safetensors(str(source / "model.safetensors"), tensors)
    with pytest.raises(CheckpointError, match=r"NaN or infinite .*mlp\.up_proj"):
        jobs.convert(source, tmp_path / "out")


@pytest.mark.slow
def test_trained_grid_is_kept(tmp_path: Path) -> None:
    """Q4_0 weights come out bit by bit; a table off the grid gets the recipe's bits."""
    source = jobs.source(tmp_path / "hub")
    tensors = jobs.tensors(source)
    for name, tensor in tensors.items():
        if "_proj" in name and tensor.shape[-1] % 32 == 0:
            groups = tensor.astype(mx.float32).reshape(*tensor.shape[:-1], -1, 32)
            step = mx.abs(groups).max(-1, keepdims=True) / 8
            step = step.astype(mx.bfloat16).astype(mx.float32)
            codes = mx.clip(mx.round(groups / step), -8, 7)
            codes[..., 0] = -8
            tensors[name] = (codes * step).reshape(tensor.shape).astype(mx.bfloat16)
    mx.save_safetensors(str(source / "model.safetensors"), tensors)
    out = tmp_path / "out"
    result = jobs.convert(
        source, out, name="google/gemma-4-E2B-it-qat-q4_0-unquantized"
    )
    assert result.groups > 0 and result.on_grid == result.groups
    after = jobs.tensors(out)
    for name in ("mlp.up_proj", "self_attn.q_proj", "mlp.down_proj"):
        parts = [
            after[f"{LAYER}.{name}.{part}"] for part in ("weight", "scales", "biases")
        ]
        parts[1:] = [part.astype(mx.float32) for part in parts[1:]]
        weight, scales, biases = parts
        again = mx.dequantize(weight, scales, biases, 32, 4, dtype=mx.float32)
        assert mx.array_equal(
            again.astype(mx.bfloat16), tensors[f"{HUB}.{name}.weight"]
        )
    settings = jobs.settings(out)
    assert (settings["bits"], settings["group_size"]) == (4, 32)
    assert settings["language_model.model.embed_tokens"]["bits"] == 6


def test_qat_by_name_only(tmp_path: Path) -> None:
    """A name that promises a grid the weights do not have changes nothing."""
    source = jobs.source(tmp_path / "hub")
    plan = jobs.plan(source, name="me/mine-qat-q4_0-unquantized")
    assert plan.qat == "q4_0"
    assert plan.table == jobs.plan(source).table
    (warning,) = plan.warnings
    assert "do not lie on the Q4_0 grid" in warning
