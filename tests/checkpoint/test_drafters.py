"""Drafters: the published ones as headers, every packing, and damaged ones by name."""

from math import prod
from pathlib import Path
from typing import Any

import layouts
import mlx.core as mx
import numpy as np
import pytest
import real
import tiny
import tiny_assistants

from mlx_gemma4.assistant.drafter import Drafter
from mlx_gemma4.assistant.model import Assistant
from mlx_gemma4.checkpoint.load import load_assistant
from mlx_gemma4.checkpoint.plan import plan_assistant
from mlx_gemma4.config import AssistantConfig, Config
from mlx_gemma4.errors import CheckpointError

ORDERING = "masked_embedding.token_ordering"
MODELS = {**real.MODELS, "12B": "google/gemma-4-12B-it-qat-w4a16-ct"}
PARAMETERS = {"E2B": 78, "E4B": 79, "12B": 423, "26B-A4B": 420, "31B": 470}  # millions
QUERIES = {"E2B": 4, "E4B": 4, "12B": 16, "26B-A4B": 16, "31B": 32}  # heads
WIDE: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 64}
PACKINGS = [
    *({"bits": bits, "group_size": 32, "mode": "affine"} for bits in (2, 3, 4, 5, 6)),
    {"bits": 8, "group_size": 64, "mode": "affine"},
    {"bits": 4, "group_size": 32, "mode": "mxfp4"},
    {"bits": 8, "group_size": 32, "mode": "mxfp8"},
    {"bits": 4, "group_size": 16, "mode": "nvfp4"},
]


def published(name: str) -> dict[str, Any]:
    """A drafter's config.json: E2B's own, the others' with what is known of them."""
    config = real.read("google/gemma-4-E2B-it-assistant")
    if name == "E2B":
        return config
    model = real.read(MODELS[name])["text_config"]
    same = ("num_key_value_heads", "num_global_key_value_heads", "attention_k_eq_v")
    same += ("sliding_window", "model_type")
    text = {**config["text_config"], **{key: model[key] for key in same}}
    text["num_attention_heads"] = QUERIES[name]
    if name != "E4B":
        text |= {"hidden_size": 1024, "intermediate_size": 8192}
        config["use_ordered_embeddings"] = False
    family = "gemma4_unified" if name == "12B" else "gemma4"
    config |= {"model_type": f"{family}_assistant", "text_config": text}
    return {**config, "backbone_hidden_size": model["hidden_size"]}


def published_headers(name: str) -> dict[str, real.Header]:
    listed = real.read(f"google/gemma-4-{name}-it-assistant", "tensors.json")
    return {
        key: ("I64" if key == ORDERING else "BF16", tuple(shape))
        for key, shape in listed.items()
    }


@pytest.mark.parametrize("name", MODELS)
def test_published_tensors_fit(name: str, tmp_path: Path) -> None:
    headers = published_headers(name)
    plan = plan_assistant(real.write_headers(tmp_path, published(name), headers))
    assert (
        len(plan.fit.sources) == len(headers) == (50 if name in ("E2B", "E4B") else 48)
    )
    floats = (prod(shape) for kind, shape in headers.values() if kind == "BF16")
    assert round(sum(floats) / 10**6) == PARAMETERS[name]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", MODELS)
def test_drafters_fit_their_own_models_alone(name: str, model: str) -> None:
    drafter = AssistantConfig.from_dict(published(name))
    stated = real.read(MODELS[model])
    stated.pop("quantization_config", None)
    config = Config.from_dict(stated)
    if name == model:
        drafter.check_pair(config, "that", "this")
        return
    told = "The drafter that was not made for this: backbone_hidden_size is"
    with pytest.raises(CheckpointError, match=told):
        drafter.check_pair(config, "that", "this")


def pair(ordered: bool = True, **text: Any) -> dict[str, Any]:
    return tiny_assistants.config_dict(tiny.config_dict("E2B"), ordered, **text)


def arrays(config: dict[str, Any]) -> layouts.Tensors:
    made = tiny_assistants.tensors(config, 0)
    return {name: mx.array(tensor) for name, tensor in made.items()}


def drafted(drafter: Assistant) -> np.ndarray:
    """Logits of a step behind a short text."""
    model = tiny.build("E2B")
    cache = model.make_cache()
    tokens = mx.array([tiny.random_tokens(20, 1)])
    state = model.language_model(tokens, cache)[:, -1:]
    seen = Drafter(drafter, Path()).seen(model, cache)
    embedding = model.language_model.embed(mx.array([[7]]))
    logits, state = drafter(embedding, state, seen, mx.array([20], mx.int32))
    return np.concatenate([np.array(logits[0, 0]), np.array(state[0, 0])])


@pytest.mark.slow
@pytest.mark.parametrize("how", PACKINGS, ids=lambda how: f"{how['mode']}{how['bits']}")
def test_every_packing_equals_its_dequantised_drafter(
    how: dict[str, Any], tmp_path: Path
) -> None:
    """With projections and centroids packed; ids stay whole."""
    config = pair(**WIDE)
    quantised, plain = layouts.packed(arrays(config), lambda _: how)
    quantised |= {ORDERING: plain[ORDERING]}
    assert "masked_embedding.centroids.scales" in quantised
    expected = load_assistant(layouts.save(tmp_path / "plain", config, plain))
    whole = {**config, "quantization": how}
    packed = load_assistant(layouts.save(tmp_path / "packed", whole, quantised))
    assert packed.masked_embedding.token_ordering.dtype == mx.int32
    np.testing.assert_allclose(drafted(packed), drafted(expected), atol=2e-4, rtol=0)


@pytest.mark.parametrize("prefix", ["language_model.model.", "language_model."])
def test_other_names_are_read(prefix: str, tmp_path: Path) -> None:
    config = pair()
    named = layouts.renamed(arrays(config), lambda n: n.replace("model.", prefix, 1))
    ours = load_assistant(layouts.save(tmp_path, config, named))
    np.testing.assert_array_equal(
        drafted(ours), drafted(tiny_assistants.build(config, 0))
    )


def test_bfloat16_is_read_and_kept_where_asked(tmp_path: Path) -> None:
    config = pair(ordered=False)
    low = {name: array.astype(mx.bfloat16) for name, array in arrays(config).items()}
    folder = layouts.save(tmp_path, config, low)
    weight = load_assistant(folder, mx.bfloat16).pre_projection.weight
    assert weight.dtype == mx.bfloat16
    assert mx.array_equal(weight, low["pre_projection.weight"])


NORM, PROJECTION = "model.norm.weight", "post_projection.weight"
LAYER = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({NORM: None}, "missing language_model.norm.weight"),
        ({PROJECTION: None}, "missing post_projection.weight"),
        ({ORDERING: None}, f"missing {ORDERING}"),
        ({ORDERING: ("BF16", (96,))}, f"{ORDERING} has the type BF16"),
        ({ORDERING: ("I64", (95,))}, ORDERING),
        ({PROJECTION: ("F32", (32, 25))}, PROJECTION),
        ({PROJECTION: ("F32", (31, 24))}, "backbone_hidden_size in config.json gives"),
        ({LAYER: ("F32", (41, 24))}, LAYER),
        ({"model.layers.4.layer_scalar": ("F32", (1,))}, "num_hidden_layers"),
        ({"surprise.weight": ("F32", (1,))}, "unexpected surprise.weight"),
        ({"model.lora_a": ("F32", (1,))}, "belongs to an adapter"),
    ],
)
def test_damage_is_named(
    changes: dict[str, real.Header | None], told: str, tmp_path: Path
) -> None:
    config = pair()
    kinds = {mx.float32: "F32", mx.int64: "I64"}
    headers = {n: (kinds[a.dtype], tuple(a.shape)) for n, a in arrays(config).items()}
    for name, header in changes.items():
        headers.pop(name, None)
        if header is not None:
            headers[name] = header
    with pytest.raises(CheckpointError, match=told):
        plan_assistant(real.write_headers(tmp_path, config, headers))


def test_a_vocabulary_that_lacks_a_token_is_refused(tmp_path: Path) -> None:
    config = pair()
    damaged = arrays(config)
    damaged[ORDERING] = mx.zeros((96,), mx.int64)
    with pytest.raises(CheckpointError, match="does not name each token once"):
        load_assistant(layouts.save(tmp_path, config, damaged))


def test_a_value_that_is_no_number_is_refused(tmp_path: Path) -> None:
    config = pair()
    damaged = arrays(config)
    damaged[PROJECTION][3, 5] = mx.nan
    with pytest.raises(CheckpointError, match=PROJECTION):
        load_assistant(layouts.save(tmp_path, config, damaged))
