"""A few layers of a model, at its real sizes and packing, with random weights.

Kernels are checked with it: what they compute and how long it takes depends on sizes
alone, and the whole model need not be read for it.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..cache import LayerCache
from ..checkpoint.fill import quantize, set_table_dtypes
from ..checkpoint.load import Prepared
from ..checkpoint.packing import Packing
from ..config import TextConfig
from ..model import Gemma4

LAYERS = "language_model.layers."
OF_A_KIND = 2  # layers: what is timed takes turns, so that less of it stays in caches
PER_LAYER_ROWS = 1024  # of the table of per-layer inputs, of which a token takes one
ROWS = 256  # that are random; below, they repeat
KEYS = 0.25  # size of an element


def sample_of(prepared: Prepared) -> Gemma4:
    """Two layers of each kind, or one where there are no more, in their order.

    Kinds differ in their attention, in whether they share keys and values, and in how
    they are packed.
    """
    model, packings = prepared.plan.model, prepared.plan.fit.packings
    text = model.config.text_config
    picked = picked_layers(text, packings)
    shared = sum(layer >= text.first_kv_shared_layer for layer in picked)
    rows = min(text.vocab_size_per_layer_input, PER_LAYER_ROWS)
    few = replace(
        text,
        num_hidden_layers=len(picked),
        layer_types=tuple(text.layer_types[layer] for layer in picked),
        num_kv_shared_layers=shared,
        vocab_size_per_layer_input=rows,
    )
    config = replace(
        model.config, text_config=few, vision_config=None, audio_config=None
    )
    sample = Gemma4(config)
    quantize(sample, _of_picked(picked, packings))
    mx.random.seed(0)
    fill(sample, prepared.dtype)
    set_table_dtypes(sample, prepared.dtype)
    return sample


def picked_layers(text: TextConfig, packings: Mapping[str, Packing]) -> list[int]:
    """The layers that stand for all."""
    seen: Counter[object] = Counter()
    picked = []
    for layer, kind in enumerate(text.layer_types):
        start = f"{LAYERS}{layer}."
        packed = sorted(
            (path.removeprefix(start), str(packing))
            for path, packing in packings.items()
            if path.startswith(start)
        )
        key = kind, layer >= text.first_kv_shared_layer, tuple(packed)
        seen[key] += 1
        if seen[key] <= OF_A_KIND:
            picked.append(layer)
    return picked


def _of_picked(
    picked: list[int], packings: Mapping[str, Packing]
) -> dict[str, Packing]:
    """The packings of what a sample has, by its own paths."""
    places = {str(layer): str(place) for place, layer in enumerate(picked)}
    found = {}
    for path, packing in packings.items():
        layer, _, rest = path.removeprefix(LAYERS).partition(".")
        if not path.startswith(LAYERS):
            found[path] = packing
        elif layer in places:
            found[f"{LAYERS}{places[layer]}.{rest}"] = packing
    return found


def fill(model: nn.Module, dtype: mx.Dtype) -> None:
    """Random weights of `dtype`, such that what goes through them keeps its size."""
    for _, module in model.named_modules():
        own: dict[str, Any] = {
            name: value for name, value in module.items() if isinstance(value, mx.array)
        }
        own = {name: value for name, value in own.items() if not name.startswith("_")}
        if "scales" in own:
            own |= _packed(module, own, dtype)
        for name in own.keys() - {"scales", "biases"}:
            x = own[name]
            if mx.issubdtype(x.dtype, mx.floating):
                own[name] = _plain(x.shape, dtype)
        module.update(own)


def _plain(shape: tuple[int, ...], dtype: mx.Dtype) -> mx.array:
    if len(shape) < 2:
        return (1 + 0.1 * mx.random.normal(shape)).astype(dtype)
    size = shape[-1] ** -0.5
    return _repeated(shape, lambda few: (size * mx.random.normal(few)).astype(dtype))


def _packed(
    module: Any, own: Mapping[str, mx.array], dtype: mx.Dtype
) -> dict[str, mx.array]:
    """Weight, scales and biases of a module with packed weights."""
    weight, scales = own["weight"], own["scales"]
    parts = {"weight": _repeated(weight.shape, _random_words)}
    inputs, levels = weight.shape[-1] * 32 // module.bits, 2**module.bits
    if module.mode != "affine":
        # About 2^-3: one byte is an exponent, or of nvfp4 four bits of one.
        byte = 0x20 if module.mode == "nvfp4" else 124
        return parts | {"scales": mx.full(scales.shape, byte, scales.dtype)}
    step = 12**0.5 / levels * inputs**-0.5  # levels are equally likely
    parts["scales"] = mx.full(scales.shape, step, dtype)
    return parts | {"biases": mx.full(scales.shape, -step * (levels - 1) / 2, dtype)}


def _random_words(shape: tuple[int, ...]) -> mx.array:
    """All bits of a uint32 are random."""
    count = shape[0] * shape[1]
    key = mx.random.randint(0, 2**24, (2,)).astype(mx.uint32)
    return mx.random.split(key, -(-count // 2)).flatten()[:count].reshape(shape)


def _repeated(
    shape: tuple[int, ...], random: Callable[[tuple[int, int]], mx.array]
) -> mx.array:
    """An array of `shape` whose rows repeat those that `random` makes of two axes."""
    *outer, inputs = shape
    rows = 1
    for size in outer:
        rows *= size
    few = random((min(rows, ROWS), inputs))
    return mx.tile(few, (-(-rows // len(few)), 1))[:rows].reshape(shape)


def cache_behind(model: Gemma4, context: int) -> list[LayerCache]:
    """A cache that holds `context` random positions."""
    cache = model.make_cache()
    dtype = model.language_model.norm.weight.dtype
    for layer, held in zip(model.layers, cache, strict=False):
        attention = layer.self_attn
        shape = (1, attention.kv_heads, context, attention.head_dim)
        keys, values = (_repeated(shape, _normal(dtype)) for _ in range(2))
        # Scores as far apart as those of whole keys would leave one key to be seen.
        held.update_and_fetch(keys * KEYS, values)
    mx.eval([held.state for held in cache])
    return cache


def _normal(dtype: mx.Dtype) -> Callable[[tuple[int, int]], mx.array]:
    return lambda shape: mx.random.normal(shape).astype(dtype)
