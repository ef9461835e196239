"""The audio tower: log-mel frames of one clip to soft tokens.

A conformer over frames that two strided convolutions have thinned out by four.
Letters: T frames, C channels, N blocks, Q queries of a block, K keys in a block's
reach, H heads, D head dimension.

Clips run one by one, each without its padding, so that none changes another's result.
"""

import math

import mlx.core as mx
import mlx.nn as nn

from ..config import AudioConfig
from ..layers import ClippedLinear, RMSNorm

MAX_TIMESCALE = 10_000.0  # of the sinusoids that stand for distances
EPS = 1e-6  # of the residual blocks' norms, as in the reference; others ask the config


class Weight(nn.Module):
    """A parameter in the Hub's layout, which no layer of MLX computes with as it is.

    A module of its own, and not a dictionary, which MLX can neither freeze nor update.
    """

    def __init__(self, weight: mx.array):
        super().__init__()
        self.weight = weight


class SubsampleLayer(nn.Module):
    """A 3x3 convolution of stride 2 over time and frequency, norm over channels, ReLU.

    Weights keep the Hub's layouts: `conv.weight` [out, in, 3, 3], `norm.weight` [out].
    """

    def __init__(self, inputs: int, outputs: int, eps: float):
        super().__init__()
        self.conv = Weight(mx.zeros((outputs, inputs, 3, 3)))
        self.norm = Weight(mx.ones((outputs,)))
        self.eps = eps

    def __call__(self, x: mx.array) -> mx.array:
        """`x` [1, T, F, in] -> [1, T / 2, F / 2, out], both rounded up."""
        weight = self.conv.weight.transpose(0, 2, 3, 1)
        x = mx.conv2d(x, weight, stride=2, padding=1)
        return nn.relu(mx.fast.layer_norm(x, self.norm.weight, None, self.eps))


class SubsampleProjection(nn.Module):
    """Log-mel frames to hidden states, one for every four frames."""

    def __init__(self, config: AudioConfig):
        super().__init__()
        first, second = config.subsampling_conv_channels
        self.layer0 = SubsampleLayer(1, first, config.rms_norm_eps)
        self.layer1 = SubsampleLayer(first, second, config.rms_norm_eps)
        # The reference takes the mel bins, a quarter of which is left, as `first`.
        width = first // 4 * second
        self.input_proj_linear = nn.Linear(width, config.hidden_size, bias=False)

    def __call__(self, features: mx.array) -> mx.array:
        """`features` [T, mel bins] -> [T / 4, hidden]."""
        x = features.astype(self.input_proj_linear.weight.dtype)
        x = self.layer1(self.layer0(x[None, :, :, None]))
        return self.input_proj_linear(x.reshape(x.shape[1], -1))


class AudioFeedForward(nn.Module):
    """A feed-forward network whose output counts by half."""

    def __init__(self, config: AudioConfig):
        super().__init__()
        hidden, clipped = config.hidden_size, config.use_clipped_linears
        self.ffw_layer_1 = ClippedLinear(hidden, 4 * hidden, clipped)
        self.ffw_layer_2 = ClippedLinear(4 * hidden, hidden, clipped)
        self.pre_layer_norm = RMSNorm(hidden, EPS)
        self.post_layer_norm = RMSNorm(hidden, EPS)
        self.limit = config.gradient_clipping
        self.residual_weight = config.residual_weight

    def __call__(self, x: mx.array) -> mx.array:
        y = self.ffw_layer_1(self.pre_layer_norm(clamp(x, self.limit)))
        y = clamp(self.ffw_layer_2(nn.silu(y)), self.limit)
        return x + self.post_layer_norm(y) * self.residual_weight


class AudioAttention(nn.Module):
    """Attention to the near past, block by block, with relative positions.

    A query sees itself and the `attention_context_left - 2` positions before it, and
    `attention_context_right - 1` after it where that is positive.
    """

    def __init__(self, config: AudioConfig):
        super().__init__()
        hidden, clipped = config.hidden_size, config.use_clipped_linears
        self.heads = config.num_attention_heads
        self.head_dim = hidden // self.heads
        self.block = config.attention_chunk_size
        self.past = config.attention_context_left - 1
        self.future = config.attention_context_right
        self.reach = self.block + self.past + self.future
        self.cap = config.attention_logit_cap
        self.q_proj = ClippedLinear(hidden, hidden, clipped)
        self.k_proj = ClippedLinear(hidden, hidden, clipped)
        self.v_proj = ClippedLinear(hidden, hidden, clipped)
        self.post = ClippedLinear(hidden, hidden, clipped)
        self.relative_k_proj = nn.Linear(hidden, hidden, bias=False)
        self.per_dim_scale = mx.zeros((self.head_dim,))

    def __call__(self, x: mx.array) -> mx.array:
        """`x` [T, hidden] -> [T, hidden]; the scores are float32."""
        T = x.shape[0]
        scale = self.head_dim**-0.5 / math.log(2)
        scale = scale * nn.softplus(self.per_dim_scale.astype(mx.float32))
        queries = self._queries(self._heads(self.q_proj(x)) * scale)  # [H, N, Q, D]
        keys = self._context(self._heads(self.k_proj(x)))  # [H, N, K, D]
        values = self._context(self._heads(self.v_proj(x)))
        scores = queries @ keys.swapaxes(-1, -2) * (math.log(1 + math.e) / math.log(2))
        scores = mx.tanh((scores + self._by_distance(queries, x)) / self.cap) * self.cap
        scores = mx.where(self._visible(T), scores, mx.finfo(mx.float32).min)
        out = mx.softmax(scores, axis=-1) @ values  # [H, N, Q, D]
        out = out.transpose(1, 2, 0, 3).reshape(-1, x.shape[1])[:T]
        return self.post(out.astype(x.dtype))

    def _heads(self, x: mx.array) -> mx.array:
        x = x.astype(mx.float32).reshape(-1, self.heads, self.head_dim)
        return x.swapaxes(0, 1)  # [H, T, D]

    def _blocks(self, T: int) -> int:
        return -(-T // self.block)

    def _queries(self, x: mx.array) -> mx.array:
        H, T, D = x.shape
        blocks = self._blocks(T)
        x = mx.pad(x, [(0, 0), (0, blocks * self.block - T), (0, 0)])
        return x.reshape(H, blocks, self.block, D)

    def _context(self, x: mx.array) -> mx.array:
        T = x.shape[1]
        after = self._blocks(T) * self.block - T + self.future
        x = mx.pad(x, [(0, 0), (self.past, after), (0, 0)])
        starts = mx.arange(self._blocks(T))[:, None] * self.block
        return x[:, starts + mx.arange(self.reach)]  # [H, N, K, D]

    def _distances(self) -> mx.array:
        """How far each key of a block lies before each query: [Q, K]."""
        queries = mx.arange(self.block)[:, None]
        return queries + self.past - mx.arange(self.reach)[None]

    def _by_distance(self, queries: mx.array, x: mx.array) -> mx.array:
        """Scores [H, N, Q, K] between queries and the sinusoids of distances."""
        hidden, furthest = x.shape[1], self.reach // 2
        count = hidden // 2
        step = math.log(MAX_TIMESCALE) / max(count - 1, 1)
        rates = mx.exp(mx.arange(count) * -step)
        angles = mx.arange(furthest + 1)[:, None] * rates
        waves = mx.concatenate([mx.sin(angles), mx.cos(angles)], axis=-1)
        keys = self._heads(self.relative_k_proj(waves.astype(x.dtype)))
        scores = queries @ keys[:, None].swapaxes(-1, -2)  # [H, N, Q, distances]
        # The sinusoids count from `furthest` down to 0, and stand for no key beyond.
        index = self._distances() - self.past + furthest
        near = mx.broadcast_to(
            mx.clip(index, 0, furthest), (*scores.shape[:2], *index.shape)
        )
        return mx.where(index >= 0, mx.take_along_axis(scores, near, axis=-1), 0)

    def _visible(self, T: int) -> mx.array:
        """Which keys [N, Q, K] a query sees."""
        distances = self._distances()
        near = ((distances >= 0) & (distances < self.past)) | (
            (distances < 0) & (-distances < self.future)
        )
        starts = mx.arange(self._blocks(T))[:, None] * self.block
        positions = starts + mx.arange(self.reach) - self.past  # [N, K]
        inside = (positions >= 0) & (positions < T)
        return near[None] & inside[:, None]


class LightConv(nn.Module):
    """Gated, causal, depthwise convolution over time."""

    def __init__(self, config: AudioConfig):
        super().__init__()
        hidden, clipped = config.hidden_size, config.use_clipped_linears
        self.linear_start = ClippedLinear(hidden, 2 * hidden, clipped)
        self.linear_end = ClippedLinear(hidden, hidden, clipped)
        self.depthwise_conv1d = Weight(mx.zeros((hidden, 1, config.conv_kernel_size)))
        self.pre_layer_norm = RMSNorm(hidden, config.rms_norm_eps)
        self.conv_norm = RMSNorm(hidden, config.rms_norm_eps)
        self.limit = config.gradient_clipping

    def __call__(self, x: mx.array) -> mx.array:
        y = nn.glu(self.linear_start(self.pre_layer_norm(x)), axis=-1)
        weight = self.depthwise_conv1d.weight.swapaxes(1, 2)  # [C, kernel, 1]
        y = mx.pad(y, [(weight.shape[1] - 1, 0), (0, 0)])
        y = mx.conv1d(y[None], weight, groups=weight.shape[0])[0]
        y = nn.silu(self.conv_norm(clamp(y, self.limit)))
        return x + self.linear_end(y)


class AudioLayer(nn.Module):
    """A conformer layer: half feed-forward, attention, convolution, other half."""

    def __init__(self, config: AudioConfig):
        super().__init__()
        hidden = config.hidden_size
        self.feed_forward1 = AudioFeedForward(config)
        self.feed_forward2 = AudioFeedForward(config)
        self.self_attn = AudioAttention(config)
        self.lconv1d = LightConv(config)
        self.norm_pre_attn = RMSNorm(hidden, EPS)
        self.norm_post_attn = RMSNorm(hidden, EPS)
        self.norm_out = RMSNorm(hidden, EPS)
        self.limit = config.gradient_clipping

    def __call__(self, x: mx.array) -> mx.array:
        x = self.feed_forward1(x)
        attended = self.self_attn(self.norm_pre_attn(clamp(x, self.limit)))
        x = x + self.norm_post_attn(clamp(attended, self.limit))
        x = self.feed_forward2(self.lconv1d(x))
        return self.norm_out(clamp(x, self.limit))


class AudioTower(nn.Module):
    """One clip's frames to its soft tokens; parameters named as on the Hub."""

    def __init__(self, config: AudioConfig):
        super().__init__()
        self.subsample_conv_projection = SubsampleProjection(config)
        self.layers = [AudioLayer(config) for _ in range(config.num_hidden_layers)]
        self.output_proj = nn.Linear(config.hidden_size, config.output_proj_dims)

    def __call__(self, features: mx.array) -> mx.array:
        """`features` float32 [T, mel bins] without padding -> [T / 4, output]."""
        x = self.subsample_conv_projection(features)
        for layer in self.layers:
            x = layer(x)
        return self.output_proj(x)


def clamp(x: mx.array, limit: float) -> mx.array:
    """Keep `x` within ±`limit`, or within what its dtype holds."""
    limit = min(limit, float(mx.finfo(x.dtype).max))
    return mx.clip(x, -limit, limit)
