"""Pictures without a tower: each square of pixels becomes one soft token.

Source: the reference's `gemma4_unified`, and the tensors of the 12B checkpoint.
"""

import mlx.core as mx
import mlx.nn as nn

from ..config import VisionEmbedderConfig

COLOURS = 3
EPS = 1e-5  # of the layer norms, which take the usual one and not `rms_norm_eps`


class LayerNorm(nn.Module):
    """Over the last axis, in float32 whatever the dtype of the weights. The mean is
    taken off twice: in an even square of sky, its rounding is not small."""

    def __init__(self, dims: int):
        super().__init__()
        self.weight = mx.ones((dims,))
        self.bias = mx.zeros((dims,))

    def __call__(self, x: mx.array) -> mx.array:
        x = x.astype(mx.float32)
        for _ in range(2):
            x = x - x.mean(axis=-1, keepdims=True)
        x = mx.fast.rms_norm(x, None, EPS)
        return (x * self.weight + self.bias).astype(self.weight.dtype)


class VisionEmbedder(nn.Module):
    """Pixels in 0..1, as they are, and where they stand in the picture."""

    def __init__(self, config: VisionEmbedderConfig):
        super().__init__()
        pixels, dims = config.side**2 * COLOURS, config.mm_embed_dim
        self.patch_ln1 = LayerNorm(pixels)
        self.patch_dense = nn.Linear(pixels, dims)
        self.patch_ln2 = LayerNorm(dims)
        self.pos_embedding = mx.zeros((config.mm_posemb_size, 2, dims))
        self.pos_norm = LayerNorm(dims)

    def __call__(self, pixels: mx.array, positions: mx.array) -> mx.array:
        """Soft tokens `[P, mm_embed_dim]` of pixels `[P, side² * 3]` at positions
        `[P, 2]` as (x, y)."""
        h = self.patch_ln2(self.patch_dense(self.patch_ln1(pixels)))
        places = self.pos_embedding[positions, mx.arange(2)]  # [P, 2, dims]
        return self.pos_norm(h + places.sum(axis=1))
