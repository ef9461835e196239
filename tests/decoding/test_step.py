"""The compiled step of decoding beside the model itself."""

import copy
import gc
import weakref
from unittest import mock

import mlx.core as mx
import numpy as np
import pytest
import tiny

from mlx_gemma4.decoding.step import DecodingStep, step_of
from mlx_gemma4.kernels import using
from mlx_gemma4.model import Gemma4

PROMPT = tiny.random_tokens(21, 2, vocab=60)  # longer than the window


def farthest(model: Gemma4, step: DecodingStep, *rows: int) -> float:
    """From the model's own logits, of so many tokens after one another."""
    caches = model.make_cache(), model.make_cache()
    for cache in caches:
        model(mx.array([PROMPT]), cache)
    worst = 0.0
    for number, count in enumerate(rows):
        tokens = mx.array([tiny.random_tokens(count, number, vocab=60)])
        (ours, hidden), whole = step(tokens, caches[0]), model(tokens, caches[1])
        np.testing.assert_array_equal(model.logits(hidden), ours)
        assert ours.shape == whole.shape
        worst = max(worst, float(mx.abs(ours - whole).max()))
    return worst


@pytest.mark.parametrize("variant", ["E2B", "E4B", "26B-A4B", "31B", "demo"])
def test_equals_the_model(variant: str) -> None:
    model = tiny.build(variant, 3)
    assert farthest(model, DecodingStep(model, lambda f: f), 1, 1, 3, 1, 16, 1) <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["E2B", "26B-A4B"])
def test_equals_the_model_compiled(variant: str) -> None:
    """With MLX's own compiler, which starts a C++ compiler where there is no GPU."""
    model = tiny.build(variant, 3)
    assert farthest(model, DecodingStep(model), 1, 1, 3, 1) <= 1e-6


def test_an_id_of_media_is_read_as_the_model_reads_it() -> None:
    model = tiny.build("E2B", 3)
    token = mx.array([[model.config.image_token_id]])
    caches = model.make_cache(), model.make_cache()
    ours, _ = DecodingStep(model, lambda f: f)(token, caches[0])
    assert mx.abs(ours - model(token, caches[1])).max() <= 1e-6


def test_another_weight_makes_another_step() -> None:
    model = tiny.build("E2B", 3)
    step = DecodingStep(model, lambda f: f)
    assert step.is_current(model)
    layer = model.layers[2].mlp.down_proj
    layer.weight = layer.weight * 2
    assert not step.is_current(model)


def test_a_step_is_kept_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.build("E2B", 3)
    assert not isinstance(step_of(model), DecodingStep)
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    with mock.patch.object(mx, "compile", lambda f: f):
        step = step_of(model)
        assert isinstance(step, DecodingStep) and step_of(model) is step
        for _ in range(2):  # as a benchmark switches kernels
            with using("norms"):
                assert step_of(model) is not step
                with using("heads"):
                    other = step_of(model)
            with using("heads"):
                assert step_of(model) is other
            assert step_of(model) is step
        model.layers[0].layer_scalar = mx.array([0.5])
        assert step_of(model) is not step


def test_a_copy_of_a_model_makes_a_step_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny.build("E2B", 3)
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    step = step_of(model)
    other = copy.deepcopy(model)
    assert step_of(other) is not step and step_of(model) is step


def test_a_model_goes_with_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, not when a collector comes along: it may be most of the memory."""
    model = tiny.build("E2B", 3)
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    step_of(model)
    gone = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert gone() is None
    finally:
        gc.enable()
