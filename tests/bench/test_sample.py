"""The few layers that stand for a model of the real size, from its headers alone."""

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import real
from mlx.utils import tree_flatten

from mlx_gemma4.bench import sample
from mlx_gemma4.bench.sample import LAYERS, cache_behind, picked_layers, sample_of
from mlx_gemma4.checkpoint.load import Prepared, prepare_model
from mlx_gemma4.checkpoint.packing import Packing, packed_shapes
from mlx_gemma4.model import Gemma4

PICKED = {
    "E2B": [0, 1, 4, 9, 15, 16, 19, 24],
    "E4B": [0, 1, 5, 11, 24, 25, 29, 35],
    "26B-A4B": [0, 1, 5, 11],
    "31B": [0, 1, 5, 11],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PICKED)
def test_a_sample_has_the_real_layers(name: str, tmp_path: Path) -> None:
    real.write_headers(tmp_path, real.mlx_config(name), real.mlx_4bit(name))
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    prepared = prepare_model(tmp_path, mx.bfloat16)
    text, packings = prepared.plan.model.config.text_config, prepared.plan.fit.packings
    assert picked_layers(text, packings) == PICKED[name]
    made = sample_of(prepared)
    assert mx.get_peak_memory() - before < 10**7  # nothing is evaluated
    ours = shapes(made)
    for path, shape in shapes(prepared.plan.model).items():
        start, _, rest = path.removeprefix(LAYERS).partition(".")
        if path.startswith(LAYERS):
            if int(start) not in PICKED[name]:
                continue
            path = f"{LAYERS}{PICKED[name].index(int(start))}.{rest}"
        elif "per_layer" in path or not path.startswith("language_model."):
            continue
        module = path.removesuffix(".weight")
        packing = packings.get(start_of(module, PICKED[name]))
        if packing is None:
            assert ours.pop(path) == shape
        else:
            for part, packed in packed_shapes(shape, packing).items():
                assert ours.pop(f"{module}.{part}") == packed
    assert all("per_layer" in path for path in ours)


def shapes(model: Gemma4) -> dict[str, tuple[int, ...]]:
    return {name: tuple(x.shape) for name, x in tree_flatten(model.parameters())}  # type: ignore[union-attr]


def start_of(module: str, picked: list[int]) -> str:
    """The real layer's name of a sample's module."""
    layer, _, rest = module.removeprefix(LAYERS).partition(".")
    return (
        f"{LAYERS}{picked[int(layer)]}.{rest}" if module.startswith(LAYERS) else module
    )


def test_layers_that_are_packed_otherwise_are_other_kinds(
    demo_folder: Path,
) -> None:
    text = prepare_model(demo_folder).plan.model.config.text_config
    plain = picked_layers(text, {})
    other = {f"{LAYERS}{max(plain)}.mlp.down_proj": Packing(8, 32, "affine")}
    assert len(picked_layers(text, other)) >= len(plain)
    assert max(plain) in picked_layers(text, other)


@pytest.fixture
def small(demo_folder: Path) -> Prepared:
    return prepare_model(demo_folder, mx.float32)


def test_a_step_keeps_its_size(small: Prepared) -> None:
    made = sample_of(small)
    cache = cache_behind(made, 70)
    assert [layer.offset for layer in cache] == [70] * len(cache)
    logits = made(mx.array([[5, 6]]), cache=cache)
    assert mx.isfinite(logits).all().item()
    assert 0.1 < mx.abs(logits).mean().item() < 10  # type: ignore[operator]


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_weights_are_as_large_as_plain_ones(bits: int) -> None:
    linear = nn.QuantizedLinear(640, 96, bias=False, group_size=64, bits=bits)
    sample.fill(linear, mx.float32)
    y = linear(mx.random.normal((50, 640)))
    assert 0.5 < mx.std(y).item() < 2 and mx.abs(y.mean()).item() < 0.3  # type: ignore[operator]
    words = np.array(linear.weight)
    assert len(np.unique(words)) == words.size and 0.49 < bits_set(words) < 0.51


def test_rows_repeat_beyond_those_that_are_random() -> None:
    made = sample._repeated((3, 200, 8), lambda shape: mx.random.normal(shape))
    rows = made.reshape(600, 8)
    assert mx.array_equal(rows[:100], rows[256:356]).item()
    assert not mx.array_equal(rows[0], rows[1]).item()


def bits_set(words: np.ndarray) -> float:
    return float(np.unpackbits(words.view(np.uint8)).mean())
