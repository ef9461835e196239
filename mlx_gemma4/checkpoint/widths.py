"""The sizes in config.json that are the length of one axis of a tensor."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..config import (
    AssistantConfig,
    AudioConfig,
    Config,
    TextConfig,
    VisionConfig,
    VisionEmbedderConfig,
)

DECODER = "language_model.layers"
VISION, AUDIO = "vision_tower.encoder.layers", "audio_tower.layers"


@dataclass(frozen=True)
class Width:
    """What a size in config.json makes of one axis of a parameter."""

    key: str  # or keys, as in "num_attention_heads x head_dim"
    stated: int
    parameter: str
    axis: int = 0


def widths(config: Config | AssistantConfig) -> Iterator[Width]:
    """Those that make models too large to be built; the fit compares all shapes."""
    text, section = config.text_config, "text_config"
    yield Width(
        f"{section}.hidden_size", text.hidden_size, "language_model.norm.weight"
    )
    yield Width(
        f"{section}.vocab_size", text.vocab_size, "language_model.embed_tokens.weight"
    )
    yield from _layer_widths(text)
    if size := text.hidden_size_per_layer_input:
        norm = "language_model.per_layer_projection_norm.weight"
        yield Width(f"{section}.hidden_size_per_layer_input", size, norm)
        table = "language_model.embed_tokens_per_layer.weight"
        rows = text.vocab_size_per_layer_input
        yield Width(f"{section}.vocab_size_per_layer_input", rows, table)
    if isinstance(config, AssistantConfig):
        yield from _drafter_widths(config)
        return
    vision, audio = config.vision_config, config.audio_config
    if isinstance(vision, VisionConfig):
        yield from _vision_widths(vision)
    elif vision is not None:
        yield from _patch_widths(vision)
    if isinstance(audio, AudioConfig):
        yield from _audio_widths(audio)
    elif audio is not None:
        weight = "embed_audio.embedding_projection.weight"
        yield Width("audio_config.audio_embed_dim", audio.audio_embed_dim, weight, 1)


def _drafter_widths(config: AssistantConfig) -> Iterator[Width]:
    after, centroids = "post_projection.weight", "masked_embedding.centroids.weight"
    yield Width("backbone_hidden_size", config.backbone_hidden_size, after)
    yield Width("num_centroids", config.num_centroids or 0, centroids)


def _layer_widths(text: TextConfig) -> Iterator[Width]:
    """Of the decoder's layers: the first of each kind, whose heads may differ."""
    first = f"{DECODER}.0"
    gate = f"{first}.mlp.gate_proj.weight"
    yield Width("text_config.intermediate_size", text.intermediate_size, gate)
    for kind in sorted(set(text.layer_types)):
        layer = text.layer_types.index(kind)
        own = "head_dim" if text.is_sliding(layer) else "global_head_dim"
        size, attention = text.layer_head_dim(layer), f"{DECODER}.{layer}.self_attn"
        yield Width(f"text_config.{own}", size, f"{attention}.q_norm.weight")
        yield Width(
            f"text_config.num_attention_heads x {own}",
            text.num_attention_heads * size,
            f"{attention}.q_proj.weight",
        )
    if text.enable_moe_block:
        router = f"{first}.router.proj.weight"
        yield Width("text_config.num_experts", text.num_experts or 0, router)
        down = f"{first}.experts.down_proj.weight"
        yield Width("text_config.hidden_size", text.hidden_size, down, axis=1)
        # Halves and single experts have other shapes, and places of their own.
        gate_up = f"{first}.experts.gate_up_proj.weight"
        rows = 2 * (text.moe_intermediate_size or 0)
        yield Width("text_config.moe_intermediate_size x 2", rows, gate_up, axis=1)


def _vision_widths(vision: VisionConfig) -> Iterator[Width]:
    first, section = f"{VISION}.0", "vision_config"
    norm, gate = f"{first}.input_layernorm.weight", f"{first}.mlp.gate_proj.linear"
    yield Width(f"{section}.hidden_size", vision.hidden_size, norm)
    yield Width(
        f"{section}.head_dim", vision.head_dim, f"{first}.self_attn.q_norm.weight"
    )
    yield Width(
        f"{section}.num_attention_heads x head_dim",
        vision.num_attention_heads * vision.head_dim,
        f"{first}.self_attn.q_proj.linear.weight",
    )
    yield Width(
        f"{section}.intermediate_size", vision.intermediate_size, f"{gate}.weight"
    )
    yield Width(
        f"{section}.patch_size",
        3 * vision.patch_size**2,
        "vision_tower.patch_embedder.input_proj.weight",
        axis=1,
    )


def _patch_widths(vision: VisionEmbedderConfig) -> Iterator[Width]:
    section, dense = "vision_config", "vision_embedder.patch_dense.weight"
    yield Width(f"{section}.mm_embed_dim", vision.mm_embed_dim, dense)
    yield Width(f"{section}.patch_size", 3 * vision.side**2, dense, axis=1)
    table = "vision_embedder.pos_embedding"
    yield Width(f"{section}.mm_posemb_size", vision.mm_posemb_size, table)


def _audio_widths(audio: AudioConfig) -> Iterator[Width]:
    norm = f"{AUDIO}.0.norm_out.weight"
    yield Width("audio_config.hidden_size", audio.hidden_size, norm)
    for i, channels in enumerate(audio.subsampling_conv_channels):
        norm = f"audio_tower.subsample_conv_projection.layer{i}.norm.weight"
        yield Width("audio_config.subsampling_conv_channels", channels, norm)
