"""One run of a command that talks: the conversation, its output, and its options."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mlx_gemma4.generation.answer import Chunk, Response

from ..render import Screen, stats_line
from .conversation import Conversation


def never() -> bool:
    return False


@dataclass
class Session:
    chat: Conversation
    screen: Screen
    model_name: str
    load_seconds: float
    show_stats: bool = False
    attach_named: bool = True  # whether paths in messages are attached
    draft: str = ""  # what the next prompt starts with

    def take_draft(self) -> str:
        draft, self.draft = self.draft, ""
        return draft

    def show(
        self, chunks: Iterator[Chunk], stopped: Callable[[], bool] = never
    ) -> None:
        """Shows an answer as it comes, until it ends or `stopped` says so."""
        self.chat.last = None
        try:
            for chunk in chunks:
                if not self.screen.as_json:
                    self._show_chunk(chunk)
                if stopped():
                    break
        finally:
            self.screen.end()
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        self.show_end()

    def _show_chunk(self, chunk: Chunk) -> None:
        if chunk.thought:
            self.screen.thought(chunk.thought)
        if chunk.text:
            self.screen.answer(chunk.text)
        for call in chunk.tool_calls:
            self.screen.tool_call(call)

    def show_end(self) -> None:
        """What follows an answer, finished or stopped."""
        answer = self.chat.last
        if answer is None:
            return
        if self.screen.as_json:
            self.screen.json(self.answer_object(answer))
            return
        if self.show_stats and answer.stats is not None:
            self.screen.note(stats_line(answer.stats))
        if answer.finish_reason == "length":
            self.screen.note("(cut off: the token limit was reached)")
        if answer.finish_reason == "malformed_call":
            self.screen.note("(a tool call that cannot be read is part of the text)")

    def answer_object(self, answer: Response) -> dict[str, Any]:
        """The answer as `--json` prints it. Times in seconds, memory in bytes."""
        stats = answer.stats
        return {
            "text": answer.text,
            "thinking": answer.thought or None,
            "tool_calls": [
                {"name": call.name, "arguments": call.arguments}
                for call in answer.tool_calls
            ],
            "malformed_calls": answer.malformed_calls,
            "finish_reason": answer.finish_reason or "interrupted",
            "usage": stats
            and {
                "prompt": stats.prompt_tokens,
                "cached": stats.cached_tokens,
                "completion": stats.completion_tokens,
            },
            "timings": {
                "load_s": round(self.load_seconds, 4),
                "ttft_s": stats and round(stats.time_to_first_token, 4),
                "prefill_tps": stats and round(stats.prefill_tps, 2),
                "decode_tps": stats and round(stats.decode_tps, 2),
            },
            "peak_memory": stats and stats.peak_memory,
            "model": self.model_name,
            "seed": stats and stats.seed,
        }
