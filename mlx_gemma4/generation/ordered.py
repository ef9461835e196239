"""Many answers in the order in which they are asked for."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ..model import Gemma4
from ..prompt.processor import Processor
from .answer import Chunk
from .loop import stream_generate

Ask = Callable[[], Mapping[str, Any]]


def in_order(
    model: Gemma4, processor: Processor, asked: Iterable[Ask], rows: int
) -> Iterator[Iterator[Chunk]]:
    """The chunks of each answer, those of one after those of another.

    asked: gives the options of `stream_generate`, `messages` or `tokens` among them,
        once there is a row for the answer. What it raises, its answer raises.
    """

    def chunks(ask: Ask) -> Iterator[Chunk]:
        yield from stream_generate(model, processor, **ask())

    for ask in asked:
        yield chunks(ask)
