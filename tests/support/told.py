"""An engine that says what a test tells it to."""

from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any, cast

from mlx_gemma4 import Chunk, Stats
from mlx_gemma4.cli.serve.engine import Asked, Engine, unheard


class Told(Engine):
    """Answers by rule, and keeps what it was asked."""

    def __init__(self, rule: Callable[[Asked], Iterable[Chunk]]) -> None:
        self.name, self.progress = "told", unheard
        self.model, self.rows = cast(Any, None), 1
        tokenizer = SimpleNamespace(encode_text=lambda text: [*map(ord, text)])
        self.processor = cast(Any, SimpleNamespace(tokenizer=tokenizer))
        self.rule = rule
        self.asked: list[Asked] = []

    @property
    def context(self) -> int:
        return 100_000

    def answer(self, asked: Asked) -> Iterator[Chunk]:
        self.asked.append(asked)
        yield from self.rule(asked)

    def count(self, asked: Asked) -> int:
        return len(asked.messages or ())


def said(*chunks: Chunk) -> list[Chunk]:
    """Chunks with an end behind them."""
    called = any(chunk.tool_calls for chunk in chunks)
    thought = sum(bool(chunk.thought) for chunk in chunks)
    stats = Stats(20, 8, seed=1, completion_tokens=len(chunks) + 1)
    stats.thought_tokens = thought
    reason = "tool_calls" if called else "stop"
    return [*chunks, Chunk("", 1, finish_reason=reason, stats=stats)]
