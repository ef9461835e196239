"""A drafter's config.json: what is read, and what is refused by key."""

from typing import Any

import pytest
import real
import tiny
import tiny_assistants

from mlx_gemma4.config import AssistantConfig, Config, ConfigWarning
from mlx_gemma4.errors import CheckpointError


def stated(**changes: Any) -> dict[str, Any]:
    """E2B's drafter's, with changes to the top level or to text_config."""
    config = real.read("google/gemma-4-E2B-it-assistant")
    for key, value in changes.items():
        place = config if key in config else config["text_config"]
        place[key] = value
    return config


def test_the_real_one() -> None:
    """Warnings are errors in these tests."""
    config = AssistantConfig.from_dict(stated())
    assert config.backbone_hidden_size == 1536
    assert config.num_centroids == 2048 and config.use_ordered_embeddings
    assert config.text_config.first_kv_shared_layer == 0


@pytest.mark.parametrize("shared", [None, 0, 4])
def test_all_layers_are_shared_whether_it_is_said_or_not(shared: int | None) -> None:
    config = AssistantConfig.from_dict(stated(num_kv_shared_layers=shared))
    assert config.text_config.num_kv_shared_layers == 4


def test_centroids_need_not_be_stated_where_there_are_none() -> None:
    config = stated(use_ordered_embeddings=False)
    del config["num_centroids"], config["centroid_intermediate_top_k"]
    assert AssistantConfig.from_dict(config).num_centroids is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_type": "gemma4"}, "model_type 'gemma4'; a drafter's is"),
        ({"model_type": "gemma3_assistant"}, "model_type 'gemma3_assistant'"),
        ({"model_type": None}, "model_type null"),
        ({"text_config": None}, "has no text_config"),
        ({"backbone_hidden_size": None}, "lacks backbone_hidden_size"),
        ({"backbone_hidden_size": 0}, "backbone_hidden_size is 0"),
        ({"backbone_hidden_size": "x"}, "backbone_hidden_size is 'x'"),
        ({"use_ordered_embeddings": "yes"}, "use_ordered_embeddings is 'yes'"),
        ({"num_centroids": None}, "lacks num_centroids"),
        ({"num_centroids": 3000}, "num_centroids 3000 does not divide"),
        ({"centroid_intermediate_top_k": 4096}, "top_k is 4096 of 2048"),
        ({"num_kv_shared_layers": 3}, "num_kv_shared_layers is 3"),
        (
            {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 96},
            "hidden_size_per_layer_input is 8, which no drafter has",
        ),
        ({"enable_moe_block": True}, "enable_moe_block is True"),
        ({"use_double_wide_mlp": True}, "use_double_wide_mlp is True"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is false"),
        ({"layer_types": ["sliding_attention"] * 4}, "the last layer is always full"),
        ({"hidden_size": None}, "hidden_size is null"),
    ],
)
def test_what_no_drafter_says_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(CheckpointError, match=told):
        AssistantConfig.from_dict(stated(**changes))


def test_what_is_not_understood_is_told() -> None:
    with pytest.warns(ConfigWarning, match="surprise"):
        AssistantConfig.from_dict(stated() | {"surprise": 5})


def test_a_drafter_is_no_model() -> None:
    with pytest.raises(CheckpointError, match="config.json is a drafter's"):
        Config.from_dict(stated())


@pytest.mark.parametrize(
    ("model", "changes", "told"),
    [
        ("E2B", {"vocab_size": 48}, "vocab_size is 48, there 96"),
        ("E2B", {"num_key_value_heads": 2}, r"value heads \(full_attention\) is 2, t"),
        ("E2B", {"head_dim": 8}, r"size of a head \(sliding_attention\) is 8, there"),
        ("31B", {"num_global_key_value_heads": 1}, r"\(full_attention\) is 1, there 2"),
    ],
)
def test_a_pair_that_does_not_meet(
    model: str, changes: dict[str, Any], told: str
) -> None:
    config = tiny.config_dict(model)
    drafter = tiny_assistants.config_dict(config, False, **changes)
    with pytest.raises(CheckpointError, match=told):
        AssistantConfig.from_dict(drafter).check_pair(
            Config.from_dict(config), "that", "this"
        )
