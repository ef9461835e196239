"""Four chained steps behind a prompt, against the reference's arrays."""

import os
from itertools import product
from pathlib import Path
from typing import Any

import golden
import mlx.core as mx
import numpy as np
import pytest
import tiny
import tiny_assistants
import tiny_media
from tiny_assistants import KINDS, ORDERED, STEPS

from mlx_gemma4.assistant.drafter import Drafter
from mlx_gemma4.assistant.model import Assistant
from mlx_gemma4.cache import rollback
from mlx_gemma4.model import Gemma4

FIRST = int(os.environ.get("GEMMA4_SEED", "0"))
QUICK = {("E2B", "33"), ("12B", "33"), ("31B", "33"), ("E4B", "sound")}
CASES = [
    pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow)
    for case in product(KINDS, ("5", "33", "pictures", "sound"))
]
Arrays = dict[str, np.ndarray]


def first_round(
    model: Gemma4, drafter: Assistant, prompt: tiny_media.Prompt, rejected: int = 0
) -> Arrays:
    """As `torch_assistant.first_round`.

    rejected: read so many more tokens, and take them back.
    """
    cache, tokens = model.make_cache(), mx.array([prompt.tokens])
    has_media = prompt.pictures or prompt.frames or prompt.clips
    media = prompt.media if has_media else None
    embeddings = model.embed(tokens, media) if media else None
    blocks = model.vision_blocks(tokens) if media else None
    read = model.language_model(model.text_tokens(tokens), cache, embeddings, blocks)
    state = read[:, -1:]
    token = model.logits(state).argmax(axis=-1)
    if rejected:
        model(mx.array([[7] * rejected]), cache=cache)
        rollback(cache, rejected)
    found: dict[str, Any] = {"first": token[0, 0], "hidden": state[0, 0]}
    rows: dict[str, list[mx.array]] = {"logits": [], "states": [], "tokens": []}
    position = mx.array([len(prompt.tokens)], mx.int32)
    made = Drafter(drafter, Path())
    seen = made.seen(model, cache)
    for _ in range(STEPS):
        embedding = model.language_model.embed(token)
        logits, state = drafter(embedding, state, seen, position)
        token = logits.argmax(axis=-1)
        rows["logits"].append(logits[0, 0])
        rows["states"].append(state[0, 0])
        rows["tokens"].append(token[0, 0])
    found |= {name: mx.stack(each) for name, each in rows.items()}
    first, hidden = int(found["first"].item()), found["hidden"][None, None]
    proposed = made.propose(model, first, hidden, cache, STEPS)
    assert proposed.tolist() == [found["tokens"].tolist()]
    return {name: np.array(array) for name, array in found.items()}


def check(ours: Arrays, reference: Arrays) -> None:
    assert ours.keys() == reference.keys()
    for name, expected in reference.items():
        assert ours[name].shape == expected.shape, name
        if expected.dtype == np.float32:
            assert np.abs(ours[name] - expected).max() <= golden.BAR, name
        else:
            np.testing.assert_array_equal(ours[name], expected, name)


@pytest.mark.parametrize(("variant", "name"), CASES)
def test_drafts_are_the_references(variant: str, name: str, tmp_path: Path) -> None:
    config, prompt = tiny_assistants.prompts(variant, golden.SEED)[name]
    own = tiny_assistants.config_dict(config, variant in ORDERED)
    drafter = tiny_assistants.build(own, golden.SEED)
    if name in ("pictures", "sound"):
        model = tiny_media.build(tmp_path, config, golden.SEED)
    else:
        model = tiny.build_from(config, golden.SEED)
    start = f"{variant}.{name}."
    expected = {
        key.removeprefix(start): each
        for key, each in golden.arrays("drafters").items()
        if key.startswith(start)
    }
    check(first_round(model, drafter, prompt), expected)


@pytest.mark.parametrize("length", [pytest.param(5, marks=pytest.mark.slow), 33])
def test_what_was_rejected_is_not_seen(length: int) -> None:
    """Unlike in the reference, whose drafter then reads keys that were taken back."""
    config = tiny.config_dict("E2B")
    model = tiny.build_from(config, 1)
    drafter = tiny_assistants.build(tiny_assistants.config_dict(config, True), 1)
    prompt = tiny_media.Prompt(tiny.random_tokens(length, 1))
    plain = first_round(model, drafter, prompt)
    after = first_round(model, drafter, prompt, rejected=3)
    for name, expected in plain.items():
        np.testing.assert_array_equal(after[name], expected, name)


@pytest.mark.reference
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("seed", range(FIRST, FIRST + 3))
def test_unseen_pairs(seed: int, family: str, ordered: bool) -> None:
    import torch_assistant
    import torch_model

    config = tiny.random_config(seed, family)
    own = tiny_assistants.config_dict(config, ordered)
    window = config["text_config"]["sliding_window"]
    model, drafter = tiny.build_from(config, seed), tiny_assistants.build(own, seed)
    theirs = torch_model.build(config, seed), torch_assistant.build(own, seed)
    for length in (1, window, window + 1, window + 2, 3 * window):
        prompt = tiny_media.Prompt(tiny.random_tokens(length, seed + length))
        expected = torch_assistant.first_round(*theirs, config, prompt)
        check(first_round(model, drafter, prompt), expected)
