"""Bytes of the keys and values of a conversation, as the caches lay them out."""

import mlx.core as mx

from ..cache import SLACK
from ..cache.buffers import LARGE, STEP, rounded_up
from ..cache.packed import START, group_of
from ..config import TextConfig

PIN_BYTES = 2**29  # of all pins; each holds one window of every sliding layer


def kv_bytes(
    config: TextConfig, tokens: int, dtype: mx.Dtype, kv_bits: int | None = None
) -> int:
    """What the caches of `make_cache` hold after `tokens` tokens, the room that they
    have for more included."""
    layers = range(config.first_kv_shared_layer)
    return sum(layer_bytes(config, i, tokens, dtype, kv_bits) for i in layers)


def layer_bytes(
    config: TextConfig, layer: int, tokens: int, dtype: mx.Dtype, kv_bits: int | None
) -> int:
    """The same of one layer with keys and values of its own."""
    slots, slot = rounded_up(tokens), slot_bytes(config, layer, dtype)
    if config.is_sliding(layer):
        return min(slots, kept(config) + STEP) * slot
    if kv_bits is None or tokens <= START:
        return slots * slot
    packed = packed_slot_bytes(config, layer, dtype, kv_bits)
    return START * slot + rounded_up(tokens - START) * packed


def slot_bytes(config: TextConfig, layer: int, dtype: mx.Dtype) -> int:
    """A position's keys and values."""
    width = config.layer_key_value_heads(layer) * config.layer_head_dim(layer)
    return 2 * width * dtype.size


def packed_slot_bytes(
    config: TextConfig, layer: int, dtype: mx.Dtype, kv_bits: int
) -> int:
    """The same of a full layer behind the beginning that stays as it is computed."""
    numbers = slot_bytes(config, layer, dtype) // dtype.size
    scales = 2 * (numbers // group_of(config.layer_head_dim(layer)))
    return numbers * kv_bits // 8 + scales * dtype.size


def pin_bytes(config: TextConfig, tokens: int, dtype: mx.Dtype) -> int:
    """What a snapshot of the caches copies: of each sliding layer what it keeps."""
    layers = filter(config.is_sliding, range(config.first_kv_shared_layer))
    slots = min(tokens, kept(config))
    return sum(slots * slot_bytes(config, layer, dtype) for layer in layers)


def pins_kept(size: int, most: int) -> int:
    """How many pins of so many bytes are kept, of `most`."""
    return max(1, min(most, PIN_BYTES // size)) if size and most else most


def growing_bytes(
    config: TextConfig, tokens: int, dtype: mx.Dtype, kv_bits: int | None = None
) -> tuple[int, int]:
    """What is there beside `kv_bytes` while full layers grow, at most: small ones have
    their old buffers as well as the new ones until the step is computed, of large ones
    (the second number) one after the other has."""
    full = [i for i in range(config.first_kv_shared_layer) if not config.is_sliding(i)]
    layers = [layer_bytes(config, i, tokens, dtype, kv_bits) for i in full]
    return sum(size for size in layers if size < LARGE), max(layers, default=0)


def kept(config: TextConfig) -> int:
    """Positions that a sliding layer always keeps."""
    return config.sliding_window - 1 + SLACK
