"""Pictures, video frames and sound on their way from the processor to the model."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import mlx.core as mx

from ..config import Config

Medium = tuple[mx.array, mx.array]


@dataclass(frozen=True)
class Media:
    """The media of one prompt, each list in order of appearance.

    `images` and `frames` hold `(pixels, positions)`: float32 `[P, patch² * 3]` in 0..1
    and int32 `[P, 2]` as (x, y); rows of -1 are padding. `frames` are the pictures of
    the videos, one by one. `audio` holds `(features, mask)`: float32 `[T, 128]`
    log-mel frames and bool `[T]`.
    """

    images: list[Medium] = field(default_factory=list)
    frames: list[Medium] = field(default_factory=list)
    audio: list[Medium] = field(default_factory=list)


def soft_tokens(medium: Medium, pooling: int | None) -> int:
    """Soft tokens of a picture whose patches are pooled `pooling`², or of a clip."""
    _, marks = medium
    if pooling is None:
        return cast(int, marks[::4].sum().item())  # two convolutions of stride 2
    return cast(int, (marks[:, 0] >= 0).sum().item()) // pooling**2


@dataclass(frozen=True)
class MediaPlaces:
    """Where the media of a prompt stand among its tokens.

    keys: the tokens, but with a number of its own for the content of each medium in
        place of its placeholders, so that two prompts can be compared.
    spans: kind, position and end of each medium, in order.
    """

    keys: list[int]
    spans: list[tuple[str, int, int]]


def locate(tokens: Sequence[int], media: Media | None, config: Config) -> MediaPlaces:
    """Find every medium of `media` among `tokens`.

    Placeholders beyond what the media account for are left as they are; the model
    refuses them.
    """
    keys, spans = list(tokens), []
    for kind, medium, token, count in _counted(media, config) if media else ():
        start = spans_end(spans, kind)
        places = [i for i in range(start, len(keys)) if tokens[i] == token][:count]
        if not places:
            continue
        keys[places[0] : places[-1] + 1] = [_content(medium)] * len(places)
        spans.append((kind, places[0], places[-1] + 1))
    return MediaPlaces(keys, sorted(spans, key=lambda span: span[1]))


def spans_end(spans: Sequence[tuple[str, int, int]], kind: str) -> int:
    """Where the last of `spans` of this kind ends."""
    return max((end for other, _, end in spans if other == kind), default=0)


def media_from(media: Media, places: MediaPlaces, position: int) -> Media:
    """Those of `media` that stand at `position` or later (never across it)."""
    earlier = {"images": 0, "frames": 0, "audio": 0}
    for kind, start, _ in places.spans:
        earlier[kind] += start < position
    return Media(
        media.images[earlier["images"] :],
        media.frames[earlier["frames"] :],
        media.audio[earlier["audio"] :],
    )


def _counted(media: Media, config: Config) -> list[tuple[str, Medium, int | None, int]]:
    """Kind, medium, placeholder and number of soft tokens of each medium."""
    pooling = config.vision_config.pooling_kernel_size if config.vision_config else 1
    kinds = (
        ("images", media.images, config.image_token_id, pooling),
        ("frames", media.frames, config.video_token_id, pooling),
        ("audio", media.audio, config.audio_token_id, None),
    )
    return [
        (kind, medium, token, soft_tokens(medium, pool))
        for kind, items, token, pool in kinds
        for medium in items
    ]


def _content(medium: Medium) -> int:
    """A negative number that stands for the content of a medium."""
    digest = hashlib.sha256()
    for array in medium:
        digest.update(memoryview(mx.contiguous(array)))  # type: ignore[arg-type]
    return -1 - int.from_bytes(digest.digest()[:8])
