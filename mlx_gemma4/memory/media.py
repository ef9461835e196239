"""Bytes that the pictures and the sound of a prompt take beside its text.

Their pixels and frames wait until they are read, and the towers work at one picture or
clip at a time. As in `reading`, this is counted from the shapes of what a tower
computes, and how many of these exist at once was measured on a CPU.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import mlx.core as mx

from ..audio.framing import FRAMES_PER_TOKEN
from ..config import AudioConfig, Config, VisionConfig
from ..media import Kind
from ..vision.tower import QUERIES

COLOURS = 3
PLACE = 2  # numbers of a patch's position
# Of what a layer of the vision tower computes: as wide as its hidden states, its MLP,
# and the scores of its attention; the latter apart, of many patches on a CPU.
HIDDEN, MLP, SCORES = 11, 3.3, 2
HIDDEN_APART = 6
# Of what the first convolution over sound gives, which is the most that there is.
HEARD = 8.25
ALONE = 3  # copies of what goes through a projection, where there is no tower

Block = tuple[Kind, int]  # soft tokens of a picture, a frame or a recording


@dataclass(frozen=True)
class MediaBytes:
    """held: of what waits to be read. working: of a tower, for a moment. longest: soft
    tokens that are read at once, at most, since no medium is cut."""

    held: int = 0
    working: int = 0
    longest: int = 1


def media_bytes(config: Config, blocks: Iterable[Block], dtype: mx.Dtype) -> MediaBytes:
    """What media take that have so many soft tokens."""
    blocks = list(blocks)
    if not blocks:
        return MediaBytes()
    held = sum(_held(config, kind, tokens) for kind, tokens in blocks)
    each = {(kind == "audio", tokens) for kind, tokens in blocks}
    working = max(
        (_hearing if heard else _seeing)(config, tokens) * dtype.size
        for heard, tokens in each
    )
    return MediaBytes(held, working, max(tokens for _, tokens in blocks))


def _held(config: Config, kind: Kind, tokens: int) -> int:
    if kind == "audio":
        audio = config.audio_config
        if isinstance(audio, AudioConfig):
            bins = audio.subsampling_conv_channels[0]
            return tokens * FRAMES_PER_TOKEN * bins * mx.float32.size
        return tokens * audio.soft_width * mx.float32.size if audio else 0
    if config.vision_config is None:
        return 0
    patches = config.vision_config.patches
    numbers = COLOURS * patches.side**2 + PLACE
    return tokens * patches.pooling**2 * numbers * mx.float32.size


def _seeing(config: Config, tokens: int) -> int:
    """Numbers that exist at once while a picture is seen."""
    vision = config.vision_config
    if vision is None:
        return 0
    if not isinstance(vision, VisionConfig):
        return ALONE * tokens * (COLOURS * vision.side**2 + vision.soft_width)
    patches = tokens * vision.pooling_kernel_size**2
    scores = SCORES * vision.num_attention_heads * min(patches, QUERIES)
    if mx.metal.is_available():  # whose kernel keeps none
        scores = 0
    elif patches > QUERIES:
        return patches * (HIDDEN_APART * vision.hidden_size + scores)
    hidden, mlp = HIDDEN * vision.hidden_size, MLP * vision.intermediate_size
    return round(patches * (hidden + mlp + scores))


def _hearing(config: Config, tokens: int) -> int:
    """The same while a recording is heard."""
    audio = config.audio_config
    if audio is None:
        return 0
    if not isinstance(audio, AudioConfig):
        text = config.text_config.hidden_size
        return ALONE * tokens * (audio.soft_width + text)
    # The reference takes the mel bins as the number of channels, too.
    bins = audio.subsampling_conv_channels[0]
    first = tokens * FRAMES_PER_TOKEN // 2 * (bins // 2) * bins
    return round(HEARD * first)
