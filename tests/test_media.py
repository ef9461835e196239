"""Whole models with media: as the reference, from any layout, however padded."""

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import golden
import layouts
import mlx.core as mx
import numpy as np
import pytest
import tiny_media
from tiny_media import MODELS, Prompt, prompt

from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.errors import MediaError
from mlx_gemma4.media import (
    Attached,
    Clip,
    Kind,
    Media,
    Picture,
    Span,
    find_spans,
    media_between,
)
from mlx_gemma4.model import Gemma4

FIRST = int(os.environ.get("GEMMA4_SEED", "0"))
SEEDS = range(FIRST + 3, FIRST + 5)
GOLDEN = golden.arrays("media_models")


def make_config(name: str, directions: str | None = "vision") -> dict[str, Any]:
    return tiny_media.config_dict(*MODELS[name], use_bidirectional_attention=directions)


def logits(model: Gemma4, made: Prompt) -> np.ndarray:
    return np.array(model(mx.array([made.tokens]), media=made.media)[0])


@pytest.mark.parametrize("name", MODELS)
def test_as_the_fixture(name: str, tmp_path: Path) -> None:
    """Two pictures, a video and two clips in one prompt."""
    config = tiny_media.config_dict(*MODELS[name])
    model = tiny_media.build(tmp_path, config, golden.SEED)
    golden.check_logits(logits(model, prompt(config, golden.SEED)), GOLDEN[name])


@pytest.mark.reference
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("directions", ["vision", None])
@pytest.mark.parametrize("name", MODELS)
def test_as_the_reference(
    name: str, directions: str | None, seed: int, tmp_path: Path
) -> None:
    import torch_model

    config = make_config(name, directions)
    made = prompt(config, seed)
    model = tiny_media.build(tmp_path, config, seed)
    theirs = torch_model.build(config, seed)
    expected = torch_model.media_logits(theirs, config, made.padded)
    golden.check_logits(logits(model, made), expected)
    np.testing.assert_array_equal(logits(model, made.padded), logits(model, made))


def test_every_medium_counts(tmp_path: Path) -> None:
    """A change in one of them changes what stands behind it, and nothing before."""
    config = make_config("E2B")
    made, model = prompt(config, 1), tiny_media.build(tmp_path, config, 1)
    before = logits(model, made)
    ids = {"pictures": "image", "frames": "video", "clips": "audio"}
    for kind, name in ids.items():
        media = getattr(made, kind)
        kept = media[0]
        media[0] = (kept[0][::-1].copy(), kept[1])
        changed = np.abs(logits(model, made) - before).max(axis=-1)
        media[0] = kept
        start = made.tokens.index(config[f"{name}_token_id"])
        assert not changed[:start].any() and changed[start:].max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("converted", [False, True])
def test_convolutions_with_channels_last(converted: bool, tmp_path: Path) -> None:
    """As mlx-vlm writes them."""
    config = make_config("E2B")
    made, tensors = prompt(config, 2), tiny_media.arrays(config, 2)
    convolutions = [name for name in tensors if "conv.w" in name or "conv1d.w" in name]
    assert len(convolutions) == 2 + config["audio_config"]["num_hidden_layers"]
    hub = load_model(layouts.save(tmp_path / "hub", config, tensors))
    for name in convolutions:
        tensors[name] = mx.contiguous(mx.moveaxis(tensors[name], 1, -1))
    if converted:
        tensors = layouts.renamed(tensors, layouts.converted)
    model = load_model(layouts.save(tmp_path / "mlx", config, tensors))
    np.testing.assert_array_equal(logits(model, made), logits(hub, made))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["image", "video", "audio"])
@pytest.mark.parametrize("change", [-1, 1])
def test_placeholders_and_media_have_to_match(
    kind: str, change: int, tmp_path: Path
) -> None:
    config = make_config("E2B")
    made, model = prompt(config, 1), tiny_media.build(tmp_path, config, 1)
    token = config[f"{kind}_token_id"]
    count = made.tokens.count(token)
    place = made.tokens.index(token)
    made.tokens[place : place + 1] = [token] * (1 + change)
    message = f"{count + change} {kind} placeholders.*give {count} soft tokens"
    with pytest.raises(MediaError, match=message):
        logits(model, made)


def test_a_mask_with_gaps_is_refused(tmp_path: Path) -> None:
    config = make_config("E2B")
    made, model = prompt(config, 1), tiny_media.build(tmp_path, config, 1)
    made.clips[0][1][7] = False
    with pytest.raises(MediaError, match="gaps"):
        logits(model, made)


def spans(made: Prompt, config: dict[str, Any]) -> list[Span]:
    """Where the media of a prompt stand; begin and end keep two of them apart."""
    media = made.media
    left: dict[int, tuple[Kind, Iterator[Any]]] = {
        config["image_token_id"]: ("image", iter(media.images)),
        config["video_token_id"]: ("video", iter(media.frames)),
        config["audio_token_id"]: ("audio", iter(media.audio)),
    }
    found: list[Span] = []
    at = 0
    for token, run in groupby(made.tokens):
        end = at + len(list(run))
        if token in left:
            kind, pairs = left[token]
            medium = (Clip if kind == "audio" else Picture)(*next(pairs))
            found.append(Span(kind, at, end, medium))
        at = end
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_media_whose_places_are_known(seed: int, tmp_path: Path) -> None:
    """The same as those that are looked for, for all of a prompt or any end of it."""
    config = make_config("E2B")
    made, model = prompt(config, seed), tiny_media.build(tmp_path, config, seed)
    known = spans(made, config)
    assert len(known) == 7
    tokens = mx.array([made.tokens])
    whole = model.embed(tokens, made.media)
    for position in (0, *(span.end for span in known[:-1])):
        media = media_between(known, position, len(made.tokens))
        assert media is not None
        rest = model.embed(tokens[:, position:], media)
        np.testing.assert_allclose(rest, whole[:, position:], rtol=0, atol=1e-6)
    assert media_between(known, known[-1].end, len(made.tokens)) is None
    two = Media.at([*known, *(span.moved(len(made.tokens)) for span in known)])
    rows = model.embed(mx.array([made.tokens] * 2), two)
    np.testing.assert_allclose(rows[0], rows[1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(rows[1], whole[0], rtol=0, atol=1e-6)


def test_a_place_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    config = make_config("E2B")
    made, model = prompt(config, 1), tiny_media.build(tmp_path, config, 1)
    first, *rest = spans(made, config)
    media = Media.at([replace(first, end=first.end - 1), *rest])
    with pytest.raises(MediaError, match="placeholders, but its media give"):
        model.embed(mx.array([made.tokens]), media)


@pytest.mark.parametrize("tokens", [[1, 9, 9, 2, 3, 4], [1, 2, 3], [1, 9, 9, 9]])
def test_placeholders_that_are_too_few_are_an_error(tokens: list[int]) -> None:
    """A file that has changed since its prompt was written would overwrite text."""
    picture = Picture(mx.zeros((36, 12)), mx.zeros((36, 2), mx.int32))
    with pytest.raises(MediaError, match="4 placeholders that its image needs"):
        find_spans(tokens, [Attached("image", picture, 9, 4)])
