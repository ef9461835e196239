"""config.json changed in hundreds of ways: refused by key, said, or as the reference.

A changed file may do one of three things: nothing, which includes a warning that names
the key; what the reference computes from the same file; or be refused with the key in
the error. What is null or empty counts as an absent key.
"""

import copy
import json
import random
import warnings
from pathlib import Path
from typing import Any

import layouts
import mlx.core as mx
import numpy as np
import pytest
import tiny
import tiny_media

from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.config import Config, ConfigWarning
from mlx_gemma4.errors import CheckpointError

pytestmark = [pytest.mark.reference, pytest.mark.slow]

SEED = 4
BASE = tiny_media.config_dict("demo")
WRONG = (None, True, False, 0, 1, 2, 3, -1, 0.5, 1e-3, "x", [], {}, [1], {"a": 1})
# Changed sizes may be badly conditioned; what is misread is apart by 0.1 and more.
BAR = 1e-2
NEIGHBOURS = 2  # numbers are also doubled and raised by this
INVENTED = "new_trick"
SECTIONS = ("text_config", "vision_config", "audio_config")
Path_ = tuple[str, ...]


def keys(data: dict[str, Any], above: Path_ = ()) -> list[Path_]:
    found: list[Path_] = []
    for key, value in data.items():
        found.append((*above, key))
        if isinstance(value, dict):
            found += keys(value, (*above, key))
    return found


def changed(path: Path_, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(BASE)
    section = config
    for step in path[:-1]:
        section = section[step]
    section[path[-1]] = value
    return config


def without(path: Path_) -> dict[str, Any]:
    config = changed(path, None)
    section = config
    for step in path[:-1]:
        section = section[step]
    del section[path[-1]]
    return config


def mutations(count: int) -> list[tuple[Path_, Any]]:
    draw = random.Random(SEED)
    sections: list[Path_] = [
        (),
        ("text_config",),
        ("vision_config",),
        ("audio_config",),
    ]
    paths = [*keys(BASE), *((*section, INVENTED) for section in sections)]
    found = []
    for _ in range(count):
        path = draw.choice(paths)
        value: Any = BASE
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        close = [value * 2, value + NEIGHBOURS] if type(value) in (int, float) else []
        value = draw.choice([*WRONG, *close, *close])
        if path[-1].endswith("token_id") and type(value) is int and value > 2:
            value = -value  # an id that the prompt's text may hold
        found.append((path, value))
    return found


def made(name: str, shape: tuple[int, ...]) -> np.ndarray:
    if not shape:  # a bound of a clipped linear map
        return np.array(-20 if name.endswith("_min") else 20, np.float32)
    return tiny.random_tensor(name, shape, SEED)


def prompt_of(config: dict[str, Any]) -> tiny_media.Prompt:
    """As of BASE, with the ids that `config` gives to media."""
    ids = {k: v for k, v in config.items() if k.endswith("token_id") and v is not None}
    seen = {"vision_config": config["vision_config"]}  # the size of its patches
    return tiny_media.prompt({**BASE, **ids, **seen}, SEED).padded


def reference_logits(
    config: dict[str, Any],
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """[L, vocab] logits of the prompt, and the weights they were computed with."""
    import torch
    import torch_model
    from transformers import Gemma4Config, Gemma4ForConditionalGeneration

    known = tiny_media.tensors(BASE, SEED)
    model = Gemma4ForConditionalGeneration(
        torch_model.plain(Gemma4Config(**copy.deepcopy(config)))
    )
    tensors = {
        name: known[name]
        if name in known and known[name].shape == tuple(stored.shape)
        else made(name, tuple(stored.shape))
        for name, stored in model.state_dict().items()
    }
    if model.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    state = {name: torch.from_numpy(np.array(t)) for name, t in tensors.items()}
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    found = torch_model.media_logits(model.eval(), config, prompt_of(config))
    return found, tensors


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param(*each, id=f"{i}-{each[0][-1]}")
        for i, each in enumerate(mutations(300))
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_changed_file(path: Path_, value: Any, tmp_path: Path) -> None:
    config = changed(path, value)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", ConfigWarning)
            ours = Config.from_dict(config)
    except CheckpointError as error:
        assert path[-1] in str(error) or path[-2] in str(error)
        return
    if path[-1] == INVENTED and value not in (None, False, 0, [], {}):
        assert INVENTED in str(said[0].message)
    if ours == Config.from_dict(BASE):
        return
    try:
        expected, tensors = reference_logits(config)
    except Exception as error:
        # It wants 2.0 where a file says 2, and refuses what is null or empty.
        if type(value) is int:
            expected, tensors = reference_logits(changed(path, float(value)))
        elif value is None or value is False or value in ("", [], {}):
            expected, tensors = reference_logits(without(path))
        else:
            raise AssertionError(f"the reference refuses {path} = {value!r}") from error
    arrays = {name: mx.array(t) for name, t in tensors.items()}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = load_model(layouts.save(tmp_path, config, arrays))
    prompt = prompt_of(config)
    found = model(mx.array([prompt.tokens]), media=prompt.media)
    assert np.abs(np.array(found[0]) - expected).max() <= BAR
