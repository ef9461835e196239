"""Examples side by side, and the order in which they are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import mlx.core as mx

from ..media import Media, Span
from ..model import Gemma4
from .examples import Encoder, Example
from .forward import hidden_states
from .losses import summed_loss


@dataclass(frozen=True)
class Batch:
    """Rows of tokens, padded at their end, and what is learned of them.

    tokens: [B, L]. places: [N], the positions in the flat rows whose next token is
    learned. targets: [N], those tokens. counts: how many belong to each row.
    """

    tokens: mx.array
    places: mx.array
    targets: mx.array
    counts: tuple[int, ...]
    media: Media | None = None


def batch_of(examples: Sequence[Example], encoder: Encoder) -> Batch:
    """A batch with the media of its examples."""
    pad = encoder.processor.config.text_config.pad_token_id
    width = max(len(example.tokens) for example in examples)
    rows, places, targets, counts = [], [], [], []
    spans: list[Span] = []
    for row, example in enumerate(examples):
        rows.append(example.tokens + [pad] * (width - len(example.tokens)))
        wanted = [i for i, mark in enumerate(example.learned) if mark and i > 0]
        places += [row * width + i - 1 for i in wanted]
        targets += [example.tokens[i] for i in wanted]
        counts.append(len(wanted))
        spans += [span.moved(row * width) for span in encoder.spans(example)]
    return Batch(
        mx.array(rows, mx.int32),
        mx.array(places, mx.int32),
        mx.array(targets, mx.int32),
        tuple(counts),
        Media.at(spans) if spans else None,
    )


def batch_hidden(model: Gemma4, batch: Batch, checkpoint: bool) -> mx.array:
    """Hidden states [N, hidden] at the places of a batch."""
    h = hidden_states(model, batch.tokens, batch.media, checkpoint)
    return h.reshape(-1, h.shape[-1])[batch.places]


def batch_loss(model: Gemma4, batch: Batch, checkpoint: bool = True) -> mx.array:
    """Summed loss of the learned tokens of a batch, a float32 scalar."""
    h = batch_hidden(model, batch, checkpoint)
    return summed_loss(model, h, batch.targets)


def draw(seed: int, count: int, start: int, wanted: int) -> list[int]:
    """Numbers of `count` examples at places `start` to `start + wanted` of the order.

    The order is one shuffle of all examples after the other, each by seed and number
    of the pass: a function of the place alone, so that a resumed run goes on in it.
    """
    chosen: list[int] = []
    passes: dict[int, list[int]] = {}
    for place in range(start, start + wanted):
        number, within = divmod(place, count)
        if number not in passes:
            passes[number] = list(range(count))
            Random(f"{seed}/{number}").shuffle(passes[number])
        chosen.append(passes[number][within])
    return chosen
