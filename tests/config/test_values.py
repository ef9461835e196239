"""config.json with wrong values: each is refused by key, none raises anything else."""

import copy
import json
import warnings
from typing import Any

import pytest
import real
import tiny
from places import RESAVED

from mlx_gemma4.config import FULL, Config, ConfigWarning
from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.model import Gemma4


def google(name: str) -> dict[str, Any]:
    return (
        json.loads((RESAVED / "E2B.json").read_text())
        if name == "resaved"
        else real.read(name)
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rope_theta": 0}, "rope_theta is 0"),
        ({"rope_theta": "x"}, "rope_theta is 'x'"),
        ({"rope_type": "yarn"}, "rope_type 'yarn'"),
        ({"partial_rotary_factor": 2.0}, "partial_rotary_factor is 2.0"),
        ({"partial_rotary_factor": 0}, "partial_rotary_factor is 0"),
    ],
)
def test_impossible_rotations_are_refused(changes: dict[str, Any], named: str) -> None:
    config = tiny.config_dict("demo")
    config["text_config"]["rope_parameters"][FULL] |= changes
    with pytest.raises(CheckpointError, match=named):
        Config.from_dict(config)


def test_a_proportional_rotation_states_its_factor() -> None:
    config = tiny.config_dict("demo")
    del config["text_config"]["rope_parameters"][FULL]["partial_rotary_factor"]
    with pytest.raises(CheckpointError, match="lacks partial_rotary_factor"):
        Config.from_dict(config)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("vision_config", "patch_size", 0),
        ("vision_config", "num_attention_heads", 5),
        ("vision_config", "standardize", "false"),
        ("vision_config", "rope_parameters", [1]),
        ("vision_config", "head_dim", 66),
        ("vision_config", "hidden_activation", "relu"),
        ("vision_config", "attention_bias", True),
        ("audio_config", "hidden_size", -1),
        ("audio_config", "attention_logit_cap", 0),
        ("audio_config", "attention_context_left", 0),
        ("audio_config", "hidden_act", "gelu"),
        ("audio_config", "subsampling_conv_channels", [128]),
        ("audio_config", "subsampling_conv_channels", 3),
    ],
)
def test_impossible_towers_are_refused(section: str, key: str, value: Any) -> None:
    config = google("E2B")
    config[section][key] = value
    with pytest.raises(CheckpointError, match=key):
        Config.from_dict(config)


def places(data: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The path of every key, those of nested objects too."""
    found = []
    for key, value in data.items():
        found.append((*above, key))
        if isinstance(value, dict):
            found += places(value, (*above, key))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo", "E2B", "resaved"])
@pytest.mark.parametrize(
    "wrong", [None, "x", -1, 0, 1.5, [], {}, True, [1, 2], [None], {"a": 1}, 10**400]
)
def test_any_wrong_value_is_refused_or_harmless(name: str, wrong: Any) -> None:
    config = tiny.config_dict("demo") if name == "demo" else google(name)
    refused = 0
    for *above, key in places(config):
        changed = copy.deepcopy(config)
        section = changed
        for step in above:
            section = section[step]
        section[key] = wrong
        try:
            with warnings.catch_warnings(action="ignore", category=ConfigWarning):
                text = Config.from_dict(changed).text_config
        except CheckpointError:
            refused += 1
        else:
            assert text.sliding_window >= 1 and text.rms_norm_eps > 0
            if name == "demo":
                with warnings.catch_warnings(action="ignore", category=ConfigWarning):
                    Gemma4(Config.from_dict(changed))
    assert refused > 20
