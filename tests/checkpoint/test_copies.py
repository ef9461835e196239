"""A head that is stored although it is tied: a copy, or refused with both names."""

from pathlib import Path
from typing import Any

import layouts
import mlx.core as mx
import numpy as np
import pytest
import tiny

from mlx_gemma4.checkpoint.copies import check_copies
from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.checkpoint.plan import plan_load, read_headers
from mlx_gemma4.convert import job
from mlx_gemma4.convert.survey import Wishes
from mlx_gemma4.errors import CheckpointError

TOKENS = tiny.random_tokens(12, seed=3)
TABLE = "model.language_model.embed_tokens"
HEADS = (
    "lm_head",
    "language_model.lm_head",
    "model.lm_head",
    "model.language_model.lm_head",
)
FOUR = {"bits": 4, "group_size": 32}


def tied(**changes: Any) -> tuple[dict[str, Any], layouts.Tensors]:
    config = tiny.config_dict("31B", **changes)
    return config, layouts.random_arrays(config)


@pytest.mark.parametrize("head", HEADS)
def test_a_copy_changes_nothing(head: str, tmp_path: Path) -> None:
    config, tensors = tied()
    expected = load_model(layouts.save(tmp_path / "without", config, tensors))
    tensors[f"{head}.weight"] = tensors[f"{TABLE}.weight"]
    folder = layouts.save(tmp_path / "with", config, tensors)
    fit = plan_load(*read_headers(folder)).fit
    assert [copy.tensor.name for copy in fit.copies] == [f"{head}.weight"]
    logits = [tiny.logits(m, TOKENS) for m in (load_model(folder), expected)]
    np.testing.assert_array_equal(*logits)


@pytest.mark.parametrize("converted", [False, True])
def test_a_quantised_copy(converted: bool, tmp_path: Path) -> None:
    config, tensors = tied(intermediate_size=64)
    tensors["lm_head.weight"] = tensors[f"{TABLE}.weight"]
    packed, _ = layouts.packed(tensors, lambda _: FOUR)
    if converted:
        packed = layouts.renamed(packed, layouts.converted)
    config["quantization"] = FOUR
    folder = layouts.save(tmp_path, config, packed)
    assert len(plan_load(*read_headers(folder)).fit.copies) == 3
    load_model(folder)
    name = next(name for name in packed if name.endswith("lm_head.biases"))
    packed[name] = packed[name] + 1
    with pytest.raises(CheckpointError, match="lm_head.biases to .*embed_tokens.bias"):
        load_model(layouts.save(tmp_path, config, packed))


def test_a_head_of_its_own_is_refused_with_both_names(tmp_path: Path) -> None:
    config, tensors = tied()
    tensors["lm_head.weight"] = mx.array(tensors[f"{TABLE}.weight"])
    tensors["lm_head.weight"][-1, -1] = 0.5
    folder = layouts.save(tmp_path, config, tensors)
    fit = plan_load(*read_headers(folder)).fit
    match = f"ties lm_head.weight to {TABLE}.weight, but their values differ.*tie_word"
    with pytest.raises(CheckpointError, match=match):
        check_copies(fit.copies)
    with pytest.raises(CheckpointError, match=match):
        load_model(folder)


@pytest.mark.parametrize("change", ["type", "shape", "packing"])
def test_headers_alone_tell_some_heads_apart(change: str, tmp_path: Path) -> None:
    config, tensors = tied()
    table = tensors[f"{TABLE}.weight"]
    tensors["lm_head.weight"] = {
        "type": table.astype(mx.float16),
        "shape": table[:-1],
        "packing": table,
    }[change]
    if change == "packing":
        tensors, _ = layouts.packed(
            tensors, lambda module: FOUR if module == "lm_head" else None
        )
    folder = layouts.save(tmp_path, config, tensors)
    match = rf"ties lm_head.weight, \w+ .*, to {TABLE}.weight, F32 .*but they differ"
    with pytest.raises(CheckpointError, match=match):
        plan_load(*read_headers(folder))


def test_conversion_compares_and_leaves_it_out(tmp_path: Path) -> None:
    config, tensors = tied()
    tensors["lm_head.weight"] = tensors[f"{TABLE}.weight"]
    source = layouts.save(tmp_path / "hub", config, tensors)
    plan = job.plan_folder(source, Wishes(), "hub")
    assert [copy.tensor.name for copy in plan.copies] == ["lm_head.weight"]
    assert [item.source.name for item in plan.dropped] == ["lm_head.weight"]
    job.run(source, tmp_path / "out", plan, "hub", lambda count: None)
    assert not [n for n in layouts.names(tmp_path / "out") if "lm_head" in n]
    load_model(tmp_path / "out")
    tensors["lm_head.weight"] = tensors["lm_head.weight"] * 2
    layouts.save(source, config, tensors)
    plan = job.plan_folder(source, Wishes(), "hub")
    with pytest.raises(CheckpointError, match="their values differ"):
        job.run(source, tmp_path / "other", plan, "hub", lambda count: None)
    assert not (tmp_path / "other").exists()
