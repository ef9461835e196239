"""An engine of `gemma4 serve` that says what it is told."""

from told import Told

from mlx_gemma4 import Chunk
from mlx_gemma4.chat.calls import ToolCall


class ScriptedEngine(Told):
    """Gives its answers in turn, the last one again and again."""

    def __init__(self, *answers: list[Chunk]) -> None:
        left = list(answers)
        super().__init__(lambda asked: left.pop(0) if left[1:] else left[0])


def thought(words: str) -> Chunk:
    return Chunk("", 1, thought=words)


def calls(*calls: ToolCall) -> Chunk:
    return Chunk("", 1, tool_calls=calls)
