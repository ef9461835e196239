"""Hyper-parameters of the text decoder and the towers, named as in config.json.

A field without a default has to be stated. One with a default has the reference's, and
only where that turns a feature off. Bounds stand beside the type.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

SLIDING, FULL = "sliding_attention", "full_attention"


@dataclass(frozen=True)
class AtLeast:
    """The least value of a field; `above` leaves out that value itself."""

    value: float
    above: bool = False


Count = Annotated[int, AtLeast(1)]
CountOrZero = Annotated[int, AtLeast(0)]
Real = Annotated[float, AtLeast(0, above=True)]


@dataclass(frozen=True)
class RopeParameters:
    """How one layer kind rotates: `rope_type` is "default" or "proportional".

    factor: stretches the periods of a proportional rotation.
    """

    rope_type: str
    rope_theta: Real
    partial_rotary_factor: Real = 1.0
    factor: Real = 1.0


@dataclass(frozen=True)
class TextConfig:
    """Hyper-parameters of the text decoder. `None` counts stand for "not present"."""

    vocab_size: Count
    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    num_key_value_heads: Count
    head_dim: Count
    global_head_dim: Count
    hidden_activation: str
    max_position_embeddings: Count
    rms_norm_eps: Real
    rope_parameters: Mapping[str, RopeParameters]
    layer_types: tuple[str, ...]
    sliding_window: Count
    hidden_size_per_layer_input: CountOrZero
    vocab_size_per_layer_input: CountOrZero = 0
    num_global_key_value_heads: Count | None = None
    attention_k_eq_v: bool = False
    attention_bias: bool = False
    final_logit_softcapping: Real | None = None
    use_bidirectional_attention: str | None = None
    num_kv_shared_layers: CountOrZero = 0
    use_double_wide_mlp: bool = False
    enable_moe_block: bool = False
    num_experts: CountOrZero | None = None
    top_k_experts: CountOrZero | None = None
    moe_intermediate_size: CountOrZero | None = None
    pad_token_id: CountOrZero = 0
    eos_token_id: tuple[int, ...] = ()
    tie_word_embeddings: bool = True

    @property
    def first_kv_shared_layer(self) -> int:
        """Index of the first layer without keys and values of its own."""
        return self.num_hidden_layers - self.num_kv_shared_layers

    @property
    def token_rows(self) -> int:
        """How many ids, from 0 on, have a row in every table of embeddings."""
        if not self.hidden_size_per_layer_input:
            return self.vocab_size
        return min(self.vocab_size, self.vocab_size_per_layer_input)

    def is_sliding(self, layer: int) -> bool:
        return self.layer_types[layer] == SLIDING

    def layer_head_dim(self, layer: int) -> int:
        return self.head_dim if self.is_sliding(layer) else self.global_head_dim

    def layer_key_value_heads(self, layer: int) -> int:
        # The global count only holds where keys serve as values too.
        if self.is_sliding(layer) or not self.attention_k_eq_v:
            return self.num_key_value_heads
        return self.num_global_key_value_heads or self.num_key_value_heads

    def kv_source(self, layer: int) -> int:
        """The layer whose keys and values `layer` attends to: itself, or the last
        layer of the same kind that has its own."""
        if layer < self.first_kv_shared_layer:
            return layer
        kind = self.layer_types[layer]
        own = self.layer_types[: self.first_kv_shared_layer]
        return max(i for i, other in enumerate(own) if other == kind)


@dataclass(frozen=True)
class Patches:
    """How a picture is cut: into squares of `side`² pixels, `pooling`² of which make a
    soft token, and at most `places` of which follow one another along an axis."""

    side: int
    pooling: int
    places: int


@dataclass(frozen=True)
class VisionConfig:
    """Hyper-parameters of the vision tower (patches of `patch_size`² pixels)."""

    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    num_key_value_heads: Count
    head_dim: Count
    hidden_activation: str
    rms_norm_eps: Real
    rope_parameters: RopeParameters
    patch_size: Count
    pooling_kernel_size: Count
    position_embedding_size: Count
    attention_bias: bool = False
    use_clipped_linears: bool = False
    standardize: bool = False

    @property
    def soft_width(self) -> int:
        """The numbers of a soft token, before it becomes an embedding."""
        return self.hidden_size

    @property
    def patches(self) -> Patches:
        pooling = self.pooling_kernel_size
        return Patches(self.patch_size, pooling, self.position_embedding_size)


@dataclass(frozen=True)
class VisionEmbedderConfig:
    """Hyper-parameters of seeing without a tower: a soft token is a square of `side`²
    pixels, `mm_posemb_size` of which may follow one another along an axis."""

    patch_size: Count
    pooling_kernel_size: Count
    mm_embed_dim: Count
    mm_posemb_size: Count
    output_proj_dims: Count
    rms_norm_eps: Real

    @property
    def side(self) -> int:
        return self.patch_size * self.pooling_kernel_size

    @property
    def soft_width(self) -> int:
        return self.mm_embed_dim

    @property
    def patches(self) -> Patches:
        return Patches(self.side, 1, self.mm_posemb_size)


@dataclass(frozen=True)
class AudioConfig:
    """Hyper-parameters of the audio tower (a conformer over log-mel frames)."""

    hidden_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    hidden_act: str
    subsampling_conv_channels: tuple[int, ...]
    conv_kernel_size: Count
    residual_weight: Real
    attention_chunk_size: Count
    attention_context_left: Count
    attention_context_right: CountOrZero
    attention_logit_cap: Real
    use_clipped_linears: bool
    rms_norm_eps: Real
    gradient_clipping: Real
    output_proj_dims: Count

    @property
    def soft_width(self) -> int:
        return self.output_proj_dims


@dataclass(frozen=True)
class AudioEmbedderConfig:
    """Hyper-parameters of hearing without a tower: a soft token is so many samples."""

    audio_embed_dim: Count
    rms_norm_eps: Real

    @property
    def soft_width(self) -> int:
        return self.audio_embed_dim
