"""Pictures, video frames and sound on their way from the processor to the model."""

from dataclasses import dataclass, field

import mlx.core as mx


@dataclass(frozen=True)
class Media:
    """The media of one prompt, each list in order of appearance.

    `images` and `frames` hold `(pixels, positions)`: float32 `[P, patch² * 3]` in 0..1
    and int32 `[P, 2]` as (x, y); rows of -1 are padding. `frames` are the pictures of
    the videos, one by one. `audio` holds `(features, mask)`: float32 `[T, 128]`
    log-mel frames and bool `[T]`.
    """

    images: list[tuple[mx.array, mx.array]] = field(default_factory=list)
    frames: list[tuple[mx.array, mx.array]] = field(default_factory=list)
    audio: list[tuple[mx.array, mx.array]] = field(default_factory=list)
