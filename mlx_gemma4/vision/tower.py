"""The vision tower: patches of one picture to soft tokens.

Letters: P patches, S soft tokens, H heads, D head dimension.

Pictures run one by one, each at its own size and without its padding, so that no
picture's shape changes another's result and nothing needs a mask. Every patch attends
to every other; positions enter through a learned table and through 2-D rotation.
"""

from functools import partial

import mlx.core as mx
import mlx.nn as nn

from ..config import VisionConfig
from ..layers import ClippedLinear, RMSNorm, geglu, rms_normalize
from ..rope import axial_angles, rotate_axial

Angles = tuple[mx.array, mx.array]
QUERIES = 1024  # whose scores are held at once on a CPU


class PatchEmbedder(nn.Module):
    """Pixels and positions of patches to hidden states."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        pixels, hidden = 3 * config.patch_size**2, config.hidden_size
        self.input_proj = nn.Linear(pixels, hidden, bias=False)
        table = (2, config.position_embedding_size, hidden)
        self.position_embedding_table = mx.zeros(table)

    def __call__(self, pixels: mx.array, positions: mx.array) -> mx.array:
        """`pixels` [P, patch² * 3] in 0..1 and `positions` [P, 2] -> [P, hidden]."""
        centred = (2 * (pixels - 0.5)).astype(self.input_proj.weight.dtype)
        along_x, along_y = self.position_embedding_table
        where = along_x[positions[:, 0]] + along_y[positions[:, 1]]
        return self.input_proj(centred) + where


def attend_all(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    """Attention of every patch to every other with score scale 1, `[1, H, P, D]`.

    MLX's GPU kernel keeps no scores, but on a CPU all of them would exist at once: 5 GB
    for 12 heads and the largest picture. There a few queries go at a time.
    """
    attend = partial(mx.fast.scaled_dot_product_attention, scale=1.0)
    if mx.metal.is_available() or queries.shape[2] <= QUERIES:
        return attend(queries, keys, values)
    rows = []
    for start in range(0, queries.shape[2], QUERIES):
        rows.append(attend(queries[:, :, start : start + QUERIES], keys, values))
        mx.eval(rows[-1])  # else MLX makes room for all of them at once
    return mx.concatenate(rows, axis=2)


class VisionAttention(nn.Module):
    """Attention among all patches, with score scale 1."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        hidden, clipped = config.hidden_size, config.use_clipped_linears
        self.heads, self.kv_heads = (
            config.num_attention_heads,
            config.num_key_value_heads,
        )
        self.head_dim, self.eps = config.head_dim, config.rms_norm_eps
        width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        self.q_proj = ClippedLinear(hidden, width, clipped)
        self.k_proj = ClippedLinear(hidden, kv_width, clipped)
        self.v_proj = ClippedLinear(hidden, kv_width, clipped)
        self.o_proj = ClippedLinear(width, hidden, clipped)
        self.q_norm = RMSNorm(self.head_dim, self.eps)
        self.k_norm = RMSNorm(self.head_dim, self.eps)

    def __call__(self, x: mx.array, angles: Angles) -> mx.array:
        """`x` [P, hidden] -> [P, hidden]."""
        queries = self.q_norm(self._heads(self.q_proj(x), self.heads))
        keys = self.k_norm(self._heads(self.k_proj(x), self.kv_heads))
        values = rms_normalize(self._heads(self.v_proj(x), self.kv_heads), self.eps)
        queries, keys = rotate_axial(queries, angles), rotate_axial(keys, angles)
        out = attend_all(queries, keys, values)
        return self.o_proj(out[0].swapaxes(0, 1).reshape(x.shape[0], -1))

    def _heads(self, x: mx.array, heads: int) -> mx.array:
        return x.reshape(1, -1, heads, self.head_dim).swapaxes(1, 2)  # [1, H, P, D]


class VisionMLP(nn.Module):
    """GeGLU feed-forward network."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        hidden, width = config.hidden_size, config.intermediate_size
        clipped = config.use_clipped_linears
        self.gate_proj = ClippedLinear(hidden, width, clipped)
        self.up_proj = ClippedLinear(hidden, width, clipped)
        self.down_proj = ClippedLinear(width, hidden, clipped)

    def __call__(self, x: mx.array) -> mx.array:
        return self.down_proj(geglu(self.gate_proj(x), self.up_proj(x)))


class VisionLayer(nn.Module):
    """Attention and feed-forward, each between two norms and beside a residual."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        hidden, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = VisionAttention(config)
        self.mlp = VisionMLP(config)
        self.input_layernorm = RMSNorm(hidden, eps)
        self.post_attention_layernorm = RMSNorm(hidden, eps)
        self.pre_feedforward_layernorm = RMSNorm(hidden, eps)
        self.post_feedforward_layernorm = RMSNorm(hidden, eps)

    def __call__(self, x: mx.array, angles: Angles) -> mx.array:
        attended = self.self_attn(self.input_layernorm(x), angles)
        x = x + self.post_attention_layernorm(attended)
        fed = self.mlp(self.pre_feedforward_layernorm(x))
        return x + self.post_feedforward_layernorm(fed)


class VisionEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.layers = [VisionLayer(config) for _ in range(config.num_hidden_layers)]

    def __call__(self, x: mx.array, angles: Angles) -> mx.array:
        for layer in self.layers:
            x = layer(x, angles)
        return x


class VisionTower(nn.Module):
    """One picture's patches to its soft tokens; parameters named as on the Hub."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.config = config
        self.patch_embedder = PatchEmbedder(config)
        self.encoder = VisionEncoder(config)
        if config.standardize:
            self.std_bias = mx.zeros((config.hidden_size,))
            self.std_scale = mx.ones((config.hidden_size,))

    def __call__(self, pixels: mx.array, positions: mx.array) -> mx.array:
        """`pixels` float32 [P, patch² * 3] in 0..1, `positions` int32 [P, 2] as (x, y),
        without padding -> [S, hidden], pooled row by row."""
        x = self.patch_embedder(pixels, positions)
        config = self.config
        angles = axial_angles(positions, config.head_dim, config.rope_parameters)
        x = self.encoder(x, angles)
        soft = pool(x, positions, config.pooling_kernel_size) * config.hidden_size**0.5
        if config.standardize:  # in float32: the bias cancels large values
            soft = soft - self.std_bias.astype(mx.float32)
            soft = soft * self.std_scale.astype(mx.float32)
        return soft.astype(x.dtype)


def pool(x: mx.array, positions: mx.array, kernel: int) -> mx.array:
    """Mean of each `kernel`² square of patches, by position: float32 [S, hidden]."""
    cells = positions // kernel
    columns = (positions[:, 0].max() + 1) // kernel
    cell = cells[:, 0] + columns * cells[:, 1]
    sums = mx.zeros((x.shape[0] // kernel**2, x.shape[1]))
    return sums.at[cell].add(x.astype(mx.float32)) / kernel**2
