"""generation_config.json changed in hundreds of ways: refused by key, said, or as the
reference.

A changed file may do one of three things: what the reference computes from the same
file, or be refused with the key in the error, or, of what is not obeyed, be told in a
warning that names the key. What is null or empty counts as an absent key.
"""

import json
import random
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
from choosing import reference_shares, shares

from mlx_gemma4.config import Config, ConfigWarning
from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.prompt.defaults import GenerationDefaults
from mlx_gemma4.sampling import SAMPLING

pytestmark = [pytest.mark.reference, pytest.mark.slow]

SEED, COUNT, VOCABULARY = 5, 150, 96
OBEYED = {*SAMPLING, "do_sample", "eos_token_id", "suppress_tokens"}
# Google's, with what transformers or others write beside it, at its neutral value.
BASE: dict[str, Any] = {
    **{"bos_token_id": 2, "do_sample": True, "eos_token_id": [1, 9, 16]},
    **{"pad_token_id": 0, "temperature": 1.0, "top_k": 64, "top_p": 0.95},
    **{"transformers_version": "5.5.0.dev0", "suppress_tokens": [40, 41]},
    **{"repetition_penalty": 1.0, "min_p": 0.0, "typical_p": 1.0, "num_beams": 1},
    **{"no_repeat_ngram_size": 0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0},
    **{"length_penalty": 1.0, "min_length": 0, "bad_words_ids": None},
    **{"forced_bos_token_id": None, "begin_suppress_tokens": None, "use_cache": True},
    **{"renormalize_logits": False, "guidance_scale": None, "sequence_bias": None},
    **{"penalty_alpha": None, "max_new_tokens": None, "remove_invalid_values": False},
}
INVENTED = "new_trick"
WRONG: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, 3, -1, 0.5, 1e-3, "x", [], {}, [1], {"a": 1}),
    *(float("nan"), float("inf"), 10**40, [[5]], [7, 95], [96], [-1], 64.0, 500),
)
# What would change the answer; all of it has to be said.
EFFECTIVE: list[tuple[str, Any]] = [
    *(("typical_p", 0.5), ("typical_p", 0.2), ("epsilon_cutoff", 0.02), ("top_h", 0.4)),
    *(("eta_cutoff", 0.02), ("no_repeat_ngram_size", 1), ("bad_words_ids", [[5]])),
    *(("begin_suppress_tokens", [3]), ("min_length", 50), ("min_new_tokens", 5)),
    *(("sequence_bias", [[[5], 9.0]]), ("forced_bos_token_id", 0), ("num_beams", 3)),
    *(("forced_eos_token_id", 1), ("guidance_scale", 2.0), ("max_new_tokens", 5)),
    ("exponential_decay_length_penalty", [1, 2.0]),
    ("watermarking_config", {"greenlist_ratio": 0.25, "bias": 2.0}),
]
TOKENIZER: Any = SimpleNamespace(special_tokens={}, eos_token_id=1)


def mutations() -> list[tuple[str, Any]]:
    draw = random.Random(SEED)
    keys = [*BASE, INVENTED, *sorted(OBEYED & BASE.keys()) * 3]
    found = []
    for _ in range(COUNT):
        key = draw.choice(keys)
        value = BASE.get(key)
        close = [value * 2, value + 2, value / 2] if type(value) is float else []
        found.append((key, draw.choice([*WRONG, *close, *close])))
    return [*found, *EFFECTIVE]


@pytest.fixture(scope="module")
def config() -> Config:
    return Config.from_dict(tiny.config_dict("demo"))


def is_off(value: Any) -> bool:
    return value is None or value is False or value in ("", [], {})


def as_stated(key: str, stated: dict[str, Any]) -> dict[str, Any]:
    """The file as the reference has to be told it: it refuses -1 for "off" and a
    temperature of 0, which takes the likeliest, what is empty, 64.0 for a count and
    2 for 2.0."""
    value = stated[key]
    if key == "top_k" and value == -1:
        return {**stated, key: 0}
    if key == "temperature" and value == 0:
        return {**stated, key: 1.0, "do_sample": False}
    if key == "do_sample":  # a file that says how to sample, samples
        return {**stated, key: value is not False}
    if key == "top_k" and type(value) is float:
        return {**stated, key: int(value)}
    if key in OBEYED and type(value) is int and key not in ("top_k", "eos_token_id"):
        return {**stated, key: float(value)}
    return {**stated, key: None} if is_off(value) else stated


@pytest.mark.parametrize(
    ("key", "value"),
    [pytest.param(*each, id=f"{i}-{each[0]}") for i, each in enumerate(mutations())],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_changed_file(key: str, value: Any, tmp_path: Path, config: Config) -> None:
    path, stated = tmp_path / "generation_config.json", {**BASE, key: value}
    path.write_text(json.dumps(stated))
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", ConfigWarning)
            found = GenerationDefaults.from_file(path, config, TOKENIZER)
    except CheckpointError as error:
        assert key in OBEYED and f"{path}: {key} is " in str(error)
        return
    if said:
        (line,) = [str(each.message) for each in said]
        assert key not in OBEYED and f" states {key}, " in line
        return
    assert (key, value) not in EFFECTIVE
    stops = stated["eos_token_id"]
    assert is_off(stops) or {*np.atleast_1d(stops)} <= {*found.stop_tokens}
    draw = np.random.RandomState(SEED)
    for _ in range(2):
        prompt = draw.randint(0, VOCABULARY, 12).tolist()
        scores = (draw.randn(1, VOCABULARY) * 3).astype(np.float32)
        try:
            expected = reference_shares(scores, prompt, as_stated(key, stated))
        except (
            AttributeError,
            TypeError,
            ValueError,
        ):  # of a key that has no effect anyway
            assert key not in OBEYED
            expected = reference_shares(scores, prompt, BASE)
        ours = shares(scores, prompt, found.sampling, found.suppress_tokens)
        np.testing.assert_allclose(ours, expected, atol=1e-6)
