"""How many bytes a decoded token reads, and how fast this machine reads them.

A token of a single conversation uses each weight once, so no decoder is faster than
memory delivers them: bandwidth / bytes per token bounds the tokens per second.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..cache.packed import START
from ..config import TextConfig
from ..memory.held import packed_slot_bytes, slot_bytes
from ..model import Gemma4

EXPERTS = ".experts."
TABLE = "embed_tokens_per_layer."
EMBEDDINGS = "embed_tokens."
BUFFER = {"gpu": 2**30, "cpu": 2**27}  # bytes to read: far more than any cache holds
ROUNDS = 5


def weight_bytes(model: Gemma4) -> int:
    """Bytes of the weights that one decoded token reads. No towers."""
    text = [
        (name, array)
        for name, array in parameters(model)
        if name.startswith(("language_model.", "lm_head."))
    ]
    return sum(weights_read(text, model.config.text_config))


def weights_read(
    weights: Iterable[tuple[str, mx.array]], config: TextConfig
) -> Iterator[int]:
    """Bytes that one decoded token reads of each of a text decoder's weights by name.

    Of the experts only the chosen ones; one row of the per-layer table; one row of the
    embeddings, and all of them where they are the head too.
    """
    for name, array in weights:
        if EXPERTS in name:
            assert config.num_experts and config.top_k_experts
            yield array.nbytes // config.num_experts * config.top_k_experts
        elif TABLE in name:
            yield array.nbytes // len(array)
        elif EMBEDDINGS in name:
            yield array.nbytes // len(array)
            yield array.nbytes if config.tie_word_embeddings else 0
        else:
            yield array.nbytes


def parameters(model: nn.Module) -> list[tuple[str, mx.array]]:
    """All parameters by name."""
    return cast(list[tuple[str, mx.array]], tree_flatten(model.parameters()))


def cache_bytes(
    config: TextConfig, context: int, dtype: mx.Dtype, kv_bits: int | None = None
) -> int:
    """Bytes of keys and values that one token reads as number `context` of the text.

    Sliding layers read a window at most; KV-shared layers read another's once more.
    """
    layers = range(config.num_hidden_layers)
    return sum(_layer_cache(config, i, context, dtype, kv_bits) for i in layers)


def held_bytes(
    config: TextConfig, context: int, dtype: mx.Dtype, kv_bits: int | None = None
) -> int:
    """The least that keys and values of `context` tokens take in memory."""
    layers = range(config.first_kv_shared_layer)
    return sum(_layer_cache(config, i, context, dtype, kv_bits) for i in layers)


def _layer_cache(
    config: TextConfig, layer: int, context: int, dtype: mx.Dtype, kv_bits: int | None
) -> int:
    slot = slot_bytes(config, layer, dtype)
    if config.is_sliding(layer):
        return min(context, config.sliding_window) * slot
    if kv_bits is None or context <= START:
        return context * slot
    packed = packed_slot_bytes(config, layer, dtype, kv_bits)
    return START * slot + (context - START) * packed


def decode_bytes(
    model: Gemma4, prompt: int, decode: int, kv_bits: int | None = None
) -> float:
    """Mean bytes per token while `decode` tokens are decoded behind `prompt` tokens."""
    dtype = model_dtype(model)
    text = model.config.text_config
    seen = range(prompt + 1, prompt + decode + 1)
    caches = sum(cache_bytes(text, context, dtype, kv_bits) for context in seen)
    return weight_bytes(model) + caches / decode


def model_dtype(model: Gemma4) -> mx.Dtype:
    """Of hidden states, keys and values."""
    return model.language_model.norm.weight.dtype


@dataclass(frozen=True)
class Bandwidth:
    """The most bytes per second seen, reading and copying (both directions counted)."""

    read: float
    copy: float

    @property
    def most(self) -> float:
        return max(self.read, self.copy)


def measure_bandwidth(size: int | None = None) -> Bandwidth:
    """Read and copy `size` bytes several times with MLX; the fastest round counts."""
    size = size or BUFFER["gpu" if mx.metal.is_available() else "cpu"]
    data = mx.arange(size // 4, dtype=mx.int32)
    mx.eval(data)
    read = _fastest(lambda: mx.max(data))
    copy = _fastest(lambda: data + 1)
    return Bandwidth(size / read, 2 * size / copy)


def _fastest(work: Callable[[], mx.array]) -> float:
    """Seconds of the fastest of a few rounds; the first one warms up."""
    times = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        mx.eval(work())
        times.append(time.perf_counter() - started)
    mx.clear_cache()
    return min(times[1:])
