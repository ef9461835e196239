"""Many conversations, answered together."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..decoding.batch import ROWS, Batch
from ..model import Gemma4
from ..prompt.processor import Processor
from .answer import Chunk, Response
from .loop import stream_generate


def generate_batch(
    model: Gemma4,
    processor: Processor,
    conversations: Sequence[str | Sequence[Mapping[str, Any]]],
    *,
    rows: int = ROWS,
    **options: Any,
) -> list[Response]:
    """The answers to `conversations`, in order: each as `generate` would give it."""
    batch: Batch[Chunk] = Batch(model, rows)
    answers = [Response() for _ in conversations]
    coming, places = enumerate(conversations), dict[int, int]()
    waiting = True
    while waiting or batch:
        while waiting and not batch.full:
            number, messages = next(coming, (-1, None))
            waiting = messages is not None
            if messages is not None:
                row = batch.add(stream_generate(model, processor, messages, **options))
                places[id(row)] = number
        for row in batch.step():
            if row.error is not None:
                raise row.error
            for chunk in row.take():
                answers[places[id(row)]].add(chunk)
    return answers
