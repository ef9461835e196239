"""What pictures, frames and recordings take in the towers while a model is trained.

A tower reads one medium after the other. Where it is not trained, nothing of a layer
stays; where it is, all of them do until their gradient is known.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from ..config import AudioConfig, Config, VisionConfig, VisionEmbedderConfig
from .examples import Example

FLOAT = 4  # bytes
KEPT = 2  # times a layer's arrays: what clamps and activations derive is kept too
FRAMES = 4  # of a soft token of sound, before two convolutions of stride 2


def tower_memory(
    config: Config, trained: Sequence[str], examples: Sequence[Example], batch: int
) -> tuple[int, int]:
    """Bytes that layers keep for `batch` of the largest examples, and of the widest
    layer of one medium. trained: names of towers, "vision" and "audio"."""
    kept = widest = 0
    for example in examples:
        if not example.record.has_media:
            continue
        own = 0
        for tower, layers, layer in _media(config, example.tokens):
            widest = max(widest, layer)
            own += KEPT * layers * layer if tower in trained else 0
        kept = max(kept, own)
    return batch * kept, widest


def _media(config: Config, tokens: Sequence[int]) -> Iterator[tuple[str, int, int]]:
    """Tower, its number of layers, and the bytes of one, of every medium."""
    vision, audio = config.vision_config, config.audio_config
    for token, run in groupby(tokens):
        length = len(list(run))
        if token in (config.image_token_id, config.video_token_id):
            if isinstance(vision, VisionConfig):
                patches = length * vision.pooling_kernel_size**2
                yield "vision", vision.num_hidden_layers, vision_layer(vision, patches)
            elif vision:
                yield "vision", 1, squares(vision, length)
        elif token == config.audio_token_id and isinstance(audio, AudioConfig):
            yield "audio", audio.num_hidden_layers, audio_layer(audio, length)


def vision_layer(config: VisionConfig, patches: int) -> int:
    """Bytes of what one layer makes of so many patches, their scores included."""
    heads = config.num_attention_heads
    width = 8 * config.hidden_size + 3 * config.intermediate_size
    width += 4 * heads * config.head_dim + 2 * heads * patches
    return FLOAT * patches * width


def squares(config: VisionEmbedderConfig, length: int) -> int:
    """The same of what sees without a tower, for `length` soft tokens."""
    pixels = 3 * config.side**2
    return FLOAT * length * (3 * pixels + 6 * config.mm_embed_dim)


def audio_layer(config: AudioConfig, length: int) -> int:
    """The same for `length` soft tokens of sound; at least what thins them out."""
    hidden, block = config.hidden_size, config.attention_chunk_size
    reach = block + config.attention_context_left + config.attention_context_right
    feeding = 2 * (8 * hidden + 2 * hidden)
    width = 12 * hidden + feeding + 2 * hidden * reach // block
    width += 4 * config.num_attention_heads * reach
    first, second = config.subsampling_conv_channels
    bins = first  # mel bins of a frame, as many as the first convolution has channels
    thinned = 3 * (FRAMES // 2 * bins // 2 * first + bins // 4 * second)
    return FLOAT * length * max(width, thinned)
