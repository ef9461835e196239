"""Whole checkpoints on trained grids: what is converted is what was trained."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import tiny
import trained
from jobs import converted

from mlx_gemma4.checkpoint.load import load_model

NAMES = {
    "q4_0": "google/gemma-4-E2B-it-qat-q4_0-unquantized",
    "ct": "google/gemma-4-E2B-it-qat-w4a16-ct",
    "mobile": "google/gemma-4-E2B-it-qat-mobile-transformers",
}


def plain_weights(folder: Path) -> dict[str, mx.array]:
    """All weights of a folder as bfloat16, unpacked in float32."""
    weights: dict[str, mx.array] = {}
    for path, module in load_model(folder, mx.float32).named_modules():
        if "weight" not in module:
            continue
        weight = module["weight"]
        if "scales" in module:
            weight = mx.dequantize(
                weight,
                module["scales"],
                module["biases"],
                module.group_size,
                module.bits,
            )
        weights[path] = weight.astype(mx.bfloat16)
    return weights


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "variant"),
    [("q4_0", "E2B"), ("q4_0", "26B-A4B"), ("q4_0", "31B"), ("ct", "E2B")]
    + [("ct", "31B"), ("mobile", "E2B")],
)
def test_every_weight_is_the_trained_one(
    layout: str, variant: str, tmp_path: Path
) -> None:
    plain, source = tmp_path / "plain", tmp_path / "source"
    trained.write(plain, source, layout, variant)
    folder = converted(source, tmp_path / "out", name=NAMES[layout])
    record = json.loads((folder / "conversion.json").read_text())
    assert record["qat"] == layout
    grids = [line for line in record["classes"] if line["grid"]]
    assert sum(line["groups"] for line in grids) > 100
    assert all(line["on_grid_groups"] == line["groups"] for line in grids)
    wanted, found = plain_weights(plain), plain_weights(folder)
    assert wanted.keys() == found.keys()
    on_grid = _modules_on_grid(folder, layout)
    assert len(on_grid) > 20
    for path in on_grid:
        assert mx.array_equal(wanted[path], found[path]), path


def _modules_on_grid(folder: Path, layout: str) -> list[str]:
    """Modules of the converted model that keep the trained packing."""
    packed = {"q4_0": (4, 32), "ct": (4, 32)}.get(layout)
    return [
        path
        for path, module in load_model(folder).named_modules()
        if "scales" in module
        and (packed is None or (module.bits, module.group_size) == packed)
    ]


@pytest.mark.parametrize("layout", NAMES)
def test_the_converted_model_predicts_what_the_trained_one_does(
    layout: str, tmp_path: Path
) -> None:
    plain, source = tmp_path / "plain", tmp_path / "source"
    trained.write(plain, source, layout)
    folder = converted(source, tmp_path / "out", name=NAMES[layout])
    tokens = tiny.random_tokens(30, seed=1)
    wanted, found = (
        tiny.logits(load_model(place, mx.float32), tokens) for place in (plain, folder)
    )
    # What is not trained is packed as usual; all of it is, in two of the layouts.
    bound = 0.2 if layout == "ct" else 0.05
    assert np.abs(wanted - found).max() < bound * np.abs(wanted).max()


def test_a_grid_that_is_only_claimed_is_not_used(tmp_path: Path) -> None:
    source = tmp_path / "source"
    tiny.write_checkpoint(
        source, "E2B", dtype=mx.bfloat16, tokenizer=True, **trained.WIDE
    )
    folder = converted(source, tmp_path / "out", name=NAMES["q4_0"])
    record = json.loads((folder / "conversion.json").read_text())
    assert not any(line["grid"] for line in record["classes"])
