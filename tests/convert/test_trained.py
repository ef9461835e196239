"""Whole checkpoints on trained grids: what is converted is what was trained."""

import json
from pathlib import Path
from typing import Any

import layouts
import mlx.core as mx
import numpy as np
import pytest
import tiny
import tiny_media
import trained
from jobs import converted, tensors
from mlx.utils import tree_flatten

from mlx_gemma4.checkpoint.files import read_tensors
from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.checkpoint.names import place, reference_name
from mlx_gemma4.convert import check
from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.model import Gemma4

NAMES = {
    "q4_0": "google/gemma-4-E2B-it-qat-q4_0-unquantized",
    "ct": "google/gemma-4-E2B-it-qat-w4a16-ct",
    "mobile": "google/gemma-4-E2B-it-qat-mobile-transformers",
}
# Mobile files are of models with towers alone.
PUBLISHED = [
    (layout, variant)
    for layout in NAMES
    for variant in trained.TOWERS
    if (layout, variant) != ("mobile", "12B")
]
SHOWN = (tiny.IMAGE, tiny.VIDEO, tiny.AUDIO)  # placeholders of a tiny prompt


def plain_weights(model: Gemma4) -> dict[str, mx.array]:
    """Of all modules as bfloat16, unpacked in float32."""
    weights: dict[str, mx.array] = {}
    for path, module in model.named_modules():
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
@pytest.mark.parametrize(("layout", "variant"), PUBLISHED)
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
    check.verify(folder)
    model = load_model(folder, mx.float32)
    wanted = plain_weights(load_model(plain, mx.float32))
    found = plain_weights(model)
    assert wanted.keys() == found.keys()
    # What is not trained is packed as usual.
    packed = {path for path, module in model.named_modules() if "scales" in module}
    exact = set(found) - packed | _trained_modules(plain, layout)
    assert len(exact & packed) >= 20 and len(exact - packed) > 20
    for path in exact:
        assert mx.array_equal(wanted[path], found[path]), path


def _trained_modules(plain: Path, layout: str) -> set[str]:
    """Modules of the decoder that the layout packs."""
    stored = read_tensors(plain)
    return {
        place(name).module
        for name, tensor in stored.items()
        if trained.PACKED[layout].fullmatch(name)
        and (layout == "q4_0" or len(tensor.shape) == 2)
        and tensor.shape[-1] % 32 == 0
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "variant"), [each for each in PUBLISHED if each[1] in ("E2B", "12B")]
)
def test_the_converted_model_predicts_what_the_trained_one_does(
    layout: str, variant: str, tmp_path: Path
) -> None:
    plain, source = tmp_path / "plain", tmp_path / "source"
    trained.write(plain, source, layout, variant)
    folder = converted(source, tmp_path / "out", name=NAMES[layout])
    models = [load_model(where, mx.float32) for where in (plain, folder)]
    tokens = tiny.random_tokens(30, seed=1)
    wanted, found = (tiny.logits(model, tokens) for model in models)
    # What is not trained is packed as usual; all of it is, in two of the layouts.
    bound = 0.2 if layout == "ct" else 0.05
    assert np.abs(wanted - found).max() < bound * np.abs(wanted).max()
    one, other = (_seen_and_heard(model, variant) for model in models)
    assert mx.array_equal(one, other)


def _seen_and_heard(model: Gemma4, variant: str = "E2B") -> mx.array:
    """Soft tokens of pictures, frames and clips: what makes them is not packed."""
    towers = trained.TOWERS[variant]
    prompt = tiny_media.prompt(tiny_media.config_dict(variant, *towers), seed=1)
    config = model.config
    ids = (config.image_token_id, config.video_token_id, config.audio_token_id)
    own = dict(zip(SHOWN, ids, strict=True))
    tokens = mx.array([[own[token] for token in prompt.tokens if token in own]])
    return model.embed(tokens, prompt.media)


@pytest.mark.slow
def test_the_references_names_of_12b_make_the_same(tmp_path: Path) -> None:
    """As it saves what it read: all that sees in one module, codes beside it."""
    source, other = tmp_path / "source", tmp_path / "other"
    trained.write(tmp_path / "plain", source, "ct", "12B")
    stored = {_by_reference(n): t for n, t in tensors(source).items()}
    layouts.save(other, json.loads((source / "config.json").read_text()), stored)
    assert any(name.startswith("model.embed_vision.patch_") for name in stored)
    models = [
        load_model(converted(where, tmp_path / f"out-{where.name}"))
        for where in (source, other)
    ]
    one, two = (dict(tree_flatten(model.parameters())) for model in models)
    assert one.keys() == two.keys()
    assert all(mx.array_equal(one[name], two[name]) for name in one)


def _by_reference(name: str) -> str:
    inner = name.removeprefix("model.")
    return name.removesuffix(inner) + reference_name(inner)


def change(folder: Path, **keys: Any) -> dict[str, mx.array]:
    """Changes keys of config.json; returns the tensors, to be changed and saved."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    found = tensors(folder)
    mx.eval(found)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["ct", "mobile"])
def test_a_tied_head_is_left_out_if_it_repeats_the_embedding(
    layout: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    trained.write(tmp_path / "plain", source, layout)
    stored = change(source, tie_word_embeddings=True)
    folder = converted(source, tmp_path / "out")
    assert not [name for name in tensors(folder) if "lm_head" in name]
    load_model(folder)
    part = "lm_head.weight" + ("_scale" if layout == "mobile" else "")
    stored[part] = stored[part] * 2
    mx.save_safetensors(str(source / "model.safetensors"), stored)
    with pytest.raises(CheckpointError, match=rf"{part} .*embed_tokens.*values differ"):
        converted(source, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    stored[part] = mx.zeros((4, 32))
    mx.save_safetensors(str(source / "model.safetensors"), stored)
    with pytest.raises(CheckpointError, match="lm_head"):
        converted(source, tmp_path / "other")


@pytest.mark.slow
def test_bounds_without_end_clip_nothing(tmp_path: Path) -> None:
    """What the reference writes where a file had no bounds."""
    plain, source = tmp_path / "plain", tmp_path / "source"
    trained.write(plain, source, "mobile")
    stored = change(source)
    for name in [name for name in stored if name.endswith(".linear.weight")]:
        module = name.removesuffix(".linear.weight")
        for end in ("input", "output"):
            stored[f"{module}.{end}_min"] = mx.array(-mx.inf, mx.bfloat16)
            stored[f"{module}.{end}_max"] = mx.array(mx.inf, mx.bfloat16)
    mx.save_safetensors(str(source / "model.safetensors"), stored)
    folder = converted(source, tmp_path / "out")
    check.verify(folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["vision_config"]["use_clipped_linears"]
    models = [load_model(where, mx.float32) for where in (plain, folder)]
    one, other = map(_seen_and_heard, models)
    assert mx.array_equal(one, other)


@pytest.mark.slow
def test_a_grid_that_is_only_claimed_is_not_used(tmp_path: Path) -> None:
    source = tmp_path / "source"
    tiny.write_checkpoint(
        source, "E2B", dtype=mx.bfloat16, tokenizer=True, **trained.WIDE
    )
    folder = converted(source, tmp_path / "out", name=NAMES["q4_0"])
    record = json.loads((folder / "conversion.json").read_text())
    assert not any(line["grid"] for line in record["classes"])


@pytest.mark.slow
def test_what_is_constant_is_packed_only_where_it_can_be(tmp_path: Path) -> None:
    """It lies on any grid: positions and convolutions that training never reached."""
    plain, source = tmp_path / "plain", tmp_path / "source"
    trained.write(plain, source, "q4_0", "E2B")
    file = source / "model.safetensors"
    weights = mx.load(str(file))
    assert isinstance(weights, dict)
    stays = [
        name
        for name, array in weights.items()
        if "_tower." in name
        and array.shape[-1:] == (32,)
        and (array.ndim > 2 or name.endswith("position_embedding_table"))
    ]
    assert any(name.endswith("position_embedding_table") for name in stays)
    weights |= {name: mx.ones_like(weights[name]) for name in stays}
    mx.save_safetensors(str(file), weights)
    folder = converted(source, tmp_path / "out", name=NAMES["q4_0"])
    vision = load_model(folder).vision_tower
    assert vision is not None
    assert (vision.patch_embedder.position_embedding_table == 1).all().item()
