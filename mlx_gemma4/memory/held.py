"""Bytes of the keys and values of a conversation, as the caches lay them out."""

import mlx.core as mx

from ..cache import SLACK
from ..cache.buffers import STEP, rounded_up
from ..config import TextConfig


def kv_bytes(config: TextConfig, tokens: int, dtype: mx.Dtype) -> int:
    """What the caches of `make_cache` hold after `tokens` tokens, the room that they
    have for more included."""
    layers = range(config.first_kv_shared_layer)
    return sum(layer_bytes(config, layer, tokens, dtype) for layer in layers)


def layer_bytes(config: TextConfig, layer: int, tokens: int, dtype: mx.Dtype) -> int:
    """The same of one layer with keys and values of its own."""
    slots = rounded_up(tokens)
    if config.is_sliding(layer):
        slots = min(slots, kept(config) + STEP)
    return slots * slot_bytes(config, layer, dtype)


def slot_bytes(config: TextConfig, layer: int, dtype: mx.Dtype) -> int:
    """A position's keys and values."""
    width = config.layer_key_value_heads(layer) * config.layer_head_dim(layer)
    return 2 * width * dtype.size


def pin_bytes(config: TextConfig, tokens: int, dtype: mx.Dtype) -> int:
    """What a snapshot of the caches copies: of each sliding layer what it keeps."""
    layers = filter(config.is_sliding, range(config.first_kv_shared_layer))
    slots = min(tokens, kept(config))
    return sum(slots * slot_bytes(config, layer, dtype) for layer in layers)


def growing_bytes(config: TextConfig, tokens: int, dtype: mx.Dtype) -> int:
    """What is there beside `kv_bytes` while caches grow: the layers do so one after
    the other, and the largest has its old buffer as well as the new one."""
    layers = range(config.first_kv_shared_layer)
    return max(layer_bytes(config, layer, tokens, dtype) for layer in layers)


def kept(config: TextConfig) -> int:
    """Positions that a sliding layer always keeps."""
    return config.sliding_window - 1 + SLACK
