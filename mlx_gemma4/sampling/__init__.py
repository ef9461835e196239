"""From logits to tokens: settings, what is drawn with them, and what goes on behind
it."""

from .drawing import draw, drawing_with, likeliest
from .sampler import Limit, Sampler
from .settings import BOUNDS, SAMPLING, Bounds, Sampling

__all__ = [
    "BOUNDS",
    "SAMPLING",
    "Bounds",
    "Limit",
    "Sampler",
    "Sampling",
    "draw",
    "drawing_with",
    "likeliest",
]
