"""Batches of prompts with media, to train on."""

from dataclasses import dataclass, field

import mlx.core as mx
import tiny_media

from mlx_gemma4.media import Media
from mlx_gemma4.tune.batches import Batch


@dataclass
class Rows:
    """Prompts of one batch and the positions whose tokens are learned."""

    prompts: list[tiny_media.Prompt] = field(default_factory=list)
    positions: list[list[int]] = field(default_factory=list)

    def add(self, prompt: tiny_media.Prompt, *positions: int) -> None:
        self.prompts.append(prompt)
        self.positions.append([p % len(prompt.tokens) for p in positions])

    @property
    def pairs(self) -> list[tuple[tiny_media.Prompt, list[int]]]:
        return list(zip(self.prompts, self.positions, strict=True))

    def batch(self) -> Batch:
        """All rows side by side; every medium padded too."""
        width = max(len(p.tokens) for p in self.prompts)
        rows = [p.tokens + [0] * (width - len(p.tokens)) for p in self.prompts]
        flat = enumerate(self.positions)
        places = [r * width + p - 1 for r, each in flat for p in each]
        targets = [p.tokens[i] for p, each in self.pairs for i in each]
        found = [p.padded.media for p in self.prompts]
        media = Media(
            [medium for each in found for medium in each.images],
            [medium for each in found for medium in each.frames],
            [medium for each in found for medium in each.audio],
        )
        some = media.images or media.frames or media.audio
        counts = tuple(len(each) for each in self.positions)
        return Batch(
            mx.array(rows, mx.int32),
            mx.array(places, mx.int32),
            mx.array(targets, mx.int32),
            counts,
            media if some else None,
        )
