"""Names and shapes of the four real models at full size, and the model's contract.

Nothing is allocated: MLX is lazy, and only shapes are read.
"""

from typing import Any

import golden
import mlx.core as mx
import numpy as np
import pytest
import real
import tiny
from mlx.utils import tree_flatten

from mlx_gemma4.cache import FullCache, SlidingCache
from mlx_gemma4.config import Config
from mlx_gemma4.errors import MediaError
from mlx_gemma4.media import Media
from mlx_gemma4.model import Gemma4

REAL = ("E2B", "E4B", "26B-A4B", "31B")
# Parameters of the text decoder as published, in billions.
PARAMETERS = {"E2B": 4.63, "E4B": 7.46, "26B-A4B": 25.2, "31B": 30.7}


def full_size(name: str) -> Gemma4:
    return Gemma4(Config.from_dict(real.read(name)))


def parameters(model: Gemma4) -> dict[str, tuple[int, ...]]:
    flat: Any = tree_flatten(model.parameters())
    return {name: array.shape for name, array in flat}


@pytest.mark.parametrize("name", REAL)
def test_every_full_size_name_and_shape(name: str) -> None:
    shapes = real.used_shapes(name)
    published = {tiny.parameter_name(name): tuple(s) for name, s in shapes.items()}
    assert parameters(full_size(name)) == published


@pytest.mark.parametrize("name", REAL)
def test_full_size_counts(name: str) -> None:
    shapes = parameters(full_size(name))
    text = [s for n, s in shapes.items() if n.startswith(("language_model", "lm_head"))]
    total = sum(int(np.prod(shape)) for shape in text)
    assert abs(total / 1e9 - PARAMETERS[name]) < 0.1


@pytest.mark.parametrize("name", REAL)
def test_full_size_forward_shapes(name: str) -> None:
    model = full_size(name)
    tokens = mx.zeros((1, 3), mx.int32)
    assert model(tokens).shape == (1, 3, 262144)
    assert model(tokens, model.make_cache(), last_only=True).shape == (1, 1, 262144)


@pytest.mark.parametrize(
    ("name", "own", "full"), [("E2B", 15, 3), ("E4B", 24, 4), ("31B", 60, 10)]
)
def test_caches_only_for_layers_with_keys(name: str, own: int, full: int) -> None:
    caches = full_size(name).make_cache()
    assert len(caches) == own
    assert sum(isinstance(c, FullCache) for c in caches) == full
    assert sum(isinstance(c, SlidingCache) for c in caches) == own - full


@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_tiny_names_are_the_reference_s(variant: str) -> None:
    shapes, config = golden.read_json("tiny_shapes")[variant], tiny.config_dict(variant)
    built = {tiny.parameter_name(name): tuple(s) for name, s in shapes.items()}
    assert parameters(tiny.build(variant)) == built
    ours = {name: list(s) for name, s in tiny.tensor_shapes(config).items()}
    assert ours == shapes


def test_untied_head_is_used() -> None:
    model = tiny.build("untied")
    tokens = [5, 6, 7]
    before = tiny.logits(model, tokens)
    model.lm_head.weight = -model.lm_head.weight
    np.testing.assert_allclose(tiny.logits(model, tokens), -before, atol=1e-5)


def test_soft_cap_bounds_the_logits_and_can_be_absent() -> None:
    tokens = tiny.random_tokens(6, 1)
    capped = tiny.logits(tiny.build("31B", final_logit_softcapping=4.0), tokens)
    free = tiny.logits(tiny.build("31B", final_logit_softcapping=None), tokens)
    assert np.abs(capped).max() < 4 < np.abs(free).max()
    np.testing.assert_allclose(capped, 4 * np.tanh(free / 4), atol=1e-4)


def test_rows_of_a_batch_are_independent() -> None:
    model = tiny.build("demo", 5)
    rows = [tiny.random_tokens(19, seed) for seed in (1, 2)]
    both = np.array(model(mx.array(rows)))
    for row, ours in zip(rows, both, strict=True):
        np.testing.assert_allclose(ours, tiny.logits(model, row), atol=1e-4)


@pytest.mark.parametrize("variant", ["E2B", "26B-A4B"])
def test_input_embeddings_replace_those_of_the_ids(variant: str) -> None:
    model = tiny.build(variant, 5)
    tokens = tiny.random_tokens(12, 5)
    ids = mx.array([tokens])
    given = model(ids, input_embeddings=model.language_model.embed(ids))
    np.testing.assert_allclose(given[0], tiny.logits(model, tokens), atol=1e-5)


def test_media_without_a_tower_is_refused() -> None:
    model, tokens = tiny.build("E2B"), mx.array([[5, 6]])
    medium = mx.zeros((9, 48)), mx.zeros((9, 2), mx.int32)
    for media in (Media(images=[medium]), Media(frames=[medium])):
        with pytest.raises(MediaError, match="cannot see"):
            model(tokens, media=media)
    clip = mx.zeros((4, 128)), mx.ones((4,), mx.bool_)
    with pytest.raises(MediaError, match="cannot hear"):
        model(tokens, media=Media(audio=[clip]))


def test_no_media_at_all_is_text() -> None:
    model, tokens = tiny.build("E2B"), mx.array([[5, 6]])
    np.testing.assert_array_equal(model(tokens, media=Media()), model(tokens))


def test_text_keeps_its_dtype() -> None:
    model = tiny.build("31B")
    model.set_dtype(mx.bfloat16)
    assert model(mx.array([[5, 6]])).dtype == mx.bfloat16


@pytest.mark.slow
def test_mlx_lm_s_generation_loop_runs_on_it() -> None:
    """Its greedy tokens are those of fresh prefills, chunks and window included."""
    from mlx_lm.generate import generate_step

    model, tokens = tiny.build("demo", 6), tiny.random_tokens(30, 1)
    steps = generate_step(mx.array(tokens), model, max_tokens=12, prefill_step_size=7)
    theirs = [int(token) for token, _ in steps]
    for _ in range(12):
        tokens.append(int(tiny.logits(model, tokens)[-1].argmax()))
    assert theirs == tokens[30:]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("E2B", "<Gemma4: 35 layers, sees, hears, 20.4 GB>"),
        ("31B", "<Gemma4: 60 layers, sees, 125 GB>"),
    ],
)
def test_a_model_is_shown_in_a_line(name: str, line: str) -> None:
    """Of what is not loaded, in float32."""
    assert repr(full_size(name)) == line
