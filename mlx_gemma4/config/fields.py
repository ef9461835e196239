"""Hyper-parameters of the text decoder and the towers, named as in config.json."""

from collections.abc import Mapping
from dataclasses import dataclass

SLIDING, FULL = "sliding_attention", "full_attention"


@dataclass(frozen=True)
class RopeParameters:
    """How one layer kind rotates: `rope_type` is "default" or "proportional"."""

    rope_type: str
    rope_theta: float
    partial_rotary_factor: float = 1.0


@dataclass(frozen=True)
class TextConfig:
    """Hyper-parameters of the text decoder. `None` counts stand for "not present"."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    global_head_dim: int
    num_global_key_value_heads: int | None
    attention_k_eq_v: bool
    attention_bias: bool
    hidden_activation: str
    max_position_embeddings: int
    rms_norm_eps: float
    rope_parameters: Mapping[str, RopeParameters]
    layer_types: tuple[str, ...]
    sliding_window: int
    final_logit_softcapping: float | None
    use_bidirectional_attention: str | None
    hidden_size_per_layer_input: int
    vocab_size_per_layer_input: int
    num_kv_shared_layers: int
    use_double_wide_mlp: bool
    enable_moe_block: bool
    num_experts: int | None
    top_k_experts: int | None
    moe_intermediate_size: int | None
    pad_token_id: int
    bos_token_id: int
    eos_token_id: tuple[int, ...]
    tie_word_embeddings: bool

    @property
    def first_kv_shared_layer(self) -> int:
        """Index of the first layer without keys and values of its own."""
        return self.num_hidden_layers - self.num_kv_shared_layers

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
class VisionConfig:
    """Hyper-parameters of the vision tower (patches of `patch_size`² pixels)."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    hidden_activation: str
    attention_bias: bool
    rms_norm_eps: float
    rope_parameters: RopeParameters
    patch_size: int
    pooling_kernel_size: int
    position_embedding_size: int
    use_clipped_linears: bool
    standardize: bool


@dataclass(frozen=True)
class AudioConfig:
    """Hyper-parameters of the audio tower (a conformer over log-mel frames)."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    hidden_act: str
    subsampling_conv_channels: tuple[int, ...]
    conv_kernel_size: int
    residual_weight: float
    attention_chunk_size: int
    attention_context_left: int
    attention_context_right: int
    attention_logit_cap: float
    use_clipped_linears: bool
    rms_norm_eps: float
    gradient_clipping: float
    output_proj_dims: int
