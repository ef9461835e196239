"""The text decoder: attention, experts, per-layer inputs, and the stack of layers."""

from .decoder import DecoderLayer, TextModel

__all__ = ["DecoderLayer", "TextModel"]
