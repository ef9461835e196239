"""An engine of `gemma4 serve` that says what it is told."""

from collections.abc import Iterator

from mlx_gemma4 import Chunk
from mlx_gemma4.chat.calls import ToolCall
from mlx_gemma4.cli.serve.engine import Asked, Engine


class ScriptedEngine(Engine):
    """Gives its answers in turn, the last one again and again. asked: what it was."""

    def __init__(self, *answers: list[Chunk]) -> None:
        self.name = "scripted"
        self.answers = list(answers)
        self.asked: list[Asked] = []

    @property
    def context(self) -> int:
        return 1000

    def answer(self, asked: Asked) -> Iterator[Chunk]:
        self.asked.append(asked)
        yield from self.answers[min(len(self.asked), len(self.answers)) - 1]


def thought(words: str) -> Chunk:
    return Chunk("", 1, thought=words)


def calls(*calls: ToolCall) -> Chunk:
    return Chunk("", 1, tool_calls=calls)
