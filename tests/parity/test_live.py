"""The same bar on configurations that no fixture holds, against the live reference.

Other ones than the usual: `GEMMA4_SEED=1234 pytest -m reference`; the first seed is
part of every test's name.
"""

import dataclasses
import json
import os
from collections.abc import Callable
from typing import Any

import golden
import mlx.core as mx
import numpy as np
import pytest
import real
import tiny

from mlx_gemma4.config import Config, TextConfig
from mlx_gemma4.text import masks, scores

pytestmark = pytest.mark.reference

FIRST = int(os.environ.get("GEMMA4_SEED", "0"))
SEEDS = range(FIRST, FIRST + 4)


def reference() -> Any:
    """The torch side; imported late, because torch may be absent."""
    import torch_model

    return torch_model


def both(
    config: dict[str, Any], seed: int, run: Callable[[Any], np.ndarray]
) -> golden.Reference:
    import torch_exact

    return torch_exact.both(config, seed, run)


def cut(draw: np.random.RandomState, length: int) -> list[int]:
    """Random chunk lengths that add up to `length`."""
    sizes: list[int] = []
    while left := length - sum(sizes):
        sizes.append(int(draw.randint(1, min(left, 20) + 1)))
    return sizes


def in_chunks(model: Any, tokens: list[int], sizes: list[int]) -> np.ndarray:
    cache, start, parts = model.make_cache(), 0, []
    for size in sizes:
        parts.append(tiny.logits(model, tokens[start : start + size], cache))
        start += size
    return np.concatenate(parts)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_unseen_configuration(family: str, seed: int) -> None:
    """Prompts to four windows: in one pass, in chunks, token by token."""
    config = tiny.random_config(seed, family)
    window = config["text_config"]["sliding_window"]
    draw = np.random.RandomState(seed)
    tokens = tiny.random_tokens(int(draw.randint(3 * window, 4 * window + 1)), seed)
    expected = both(config, seed, lambda m: reference().logits(m, tokens))
    model = tiny.build_from(config, seed)
    golden.check_exact(tiny.logits(model, tokens), expected)
    chunks = cut(draw, len(tokens))
    golden.check_exact(in_chunks(model, tokens, chunks), expected)
    golden.check_exact(in_chunks(model, tokens, [1] * len(tokens)), expected)


def picture_prompt(draw: np.random.RandomState, window: int) -> list[int]:
    """Text and picture blocks of any length, also longer than the window."""
    tokens: list[int] = []
    while len(tokens) < 3 * window:
        tokens += draw.randint(3, 80, draw.randint(1, 6)).tolist()
        media = (tiny.IMAGE, tiny.VIDEO, tiny.AUDIO)[draw.randint(3)]
        tokens += [media] * int(draw.randint(1, 2 * window))
    return [*tokens, 5, 6]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_soft_tokens(family: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one mask for all queries, and with one for every four of them."""
    config = tiny.random_config(seed, family)
    text = config["text_config"]
    tokens = picture_prompt(np.random.RandomState(seed), text["sliding_window"])
    shape = (len(tokens), text["hidden_size"])
    soft = 20 * tiny.random_tensor("soft_tokens", shape, seed)
    expected = both(
        config, seed, lambda m: reference().embedded_logits(m, config, tokens, soft)
    )
    model = tiny.build_from(config, seed)
    for block in (len(tokens), 4):
        monkeypatch.setattr(masks, "BLOCK", block)
        monkeypatch.setattr(scores, "BLOCK", block)
        ours = model(mx.array([tokens]), input_embeddings=mx.array(soft[None]))
        golden.check_exact(np.array(ours[0]), expected)


@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_names_and_shapes(variant: str) -> None:
    config = tiny.config_dict(variant)
    ours = {n: list(s) for n, s in tiny.tensor_shapes(config).items()}
    assert ours == reference().shapes(config)


@pytest.mark.parametrize("name", ["E2B", "26B-A4B"])
def test_full_size_names_and_shapes(name: str) -> None:
    """The carried lists are what the reference builds, on the meta device."""
    config = real.read(name)
    assert reference().shapes(config) == real.used_shapes(name)


def sizes(config: dict[str, Any]) -> tuple[TextConfig, list[tuple[int, int]]]:
    """The text config without the global head count, and what each layer makes of it.

    Re-saving drops an override that equals the common value.
    """
    text = Config.from_dict(config).text_config
    layers = range(text.num_hidden_layers)
    each = [(text.layer_head_dim(i), text.layer_key_value_heads(i)) for i in layers]
    return dataclasses.replace(text, num_global_key_value_heads=None), each


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_resaved_configuration(family: str, seed: int) -> None:
    config = tiny.random_config(seed, family)
    assert sizes(json.loads(reference().resaved(config))) == sizes(config)


def test_resaved_configuration_without_overrides() -> None:
    config = tiny.config_dict("E2B", head_dim=16, global_head_dim=16)
    assert sizes(json.loads(reference().resaved(config))) == sizes(config)
