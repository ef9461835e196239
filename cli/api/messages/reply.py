"""An answer in the words of Anthropic's API: blocks, and the events that tell them."""

import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlx_gemma4.chat.calls import ToolCall
from mlx_gemma4.generation.answer import UNFINISHED

from .blocks import signature

if TYPE_CHECKING:
    from mlx_gemma4 import Chunk, Stats

Event = dict[str, Any]


@dataclass
class Reply:
    """An answer as it comes. `content` holds the blocks that have begun.

    begun: text that the client gave and is not told again. context: how many tokens
    the model reads and writes at most.
    """

    model: str
    context: int
    begun: str = ""
    shows_thoughts: bool = True
    content: list[dict[str, Any]] = field(default_factory=list)
    reason: str | None = None
    stop: str | None = None
    stats: "Stats | None" = None
    _hidden: str = ""
    id: str = field(default_factory=lambda: f"msg_{secrets.token_hex(12)}")

    def start(self) -> Event:
        return {"type": "message_start", "message": self.message()}

    def add(self, chunk: "Chunk") -> list[Event]:
        """What one more chunk has to tell."""
        given = min(len(self.begun), len(chunk.text))
        text, self.begun = chunk.text[given:], self.begun[given:]
        events: list[Event] = []
        if chunk.thought:
            events += self._say("thinking", "thinking_delta", chunk.thought)
        if text:
            events += self._say("text", "text_delta", text)
        for call in chunk.tool_calls:
            events += self._call(call)
        if chunk.finish_reason:
            self.stats, self.stop = chunk.stats, chunk.stop
            self.reason = self._reason(chunk.finish_reason)
            events += self._close()
            events.append(self._last())
            events.append({"type": "message_stop"})
        return events

    def message(self) -> dict[str, Any]:
        """The answer so far, whole once `reason` is known."""
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": list(self.content),
            "stop_reason": self.reason,
            "stop_sequence": self.stop,
            "usage": self._usage(),
        }

    def _reason(self, finish: str) -> str:
        if self.stop is not None:
            return "stop_sequence"
        if finish == "length" and self.stats is not None:
            used = self.stats.prompt_tokens + self.stats.completion_tokens
            if used >= self.context:
                return "model_context_window_exceeded"
        if finish in UNFINISHED:
            return "max_tokens"
        # A call that cannot be read may stand beside others, which are to be run.
        called = any(block["type"] == "tool_use" for block in self.content)
        return "tool_use" if called else "end_turn"

    def _usage(self) -> dict[str, Any]:
        stats = self.stats
        cached = stats.cached_tokens if stats else 0
        thought = stats.thought_tokens if stats else 0
        return {
            "input_tokens": stats.prompt_tokens - cached if stats else 0,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": stats.completion_tokens if stats else 0,
            "output_tokens_details": {"thinking_tokens": thought},
        }

    def _last(self) -> Event:
        ended = {"stop_reason": self.reason, "stop_sequence": self.stop}
        return {"type": "message_delta", "delta": ended, "usage": self._usage()}

    def _say(self, kind: str, delta: str, text: str) -> list[Event]:
        events: list[Event] = []
        if not self.content or self.content[-1]["type"] != kind:
            events = self._open({"type": kind, kind: ""})
        if kind == "thinking" and not self.shows_thoughts:
            self._hidden += text
            return events
        self.content[-1][kind] += text
        return [*events, self._delta(delta, kind, text)]

    def _call(self, call: ToolCall) -> list[Event]:
        block = {"type": "tool_use", "id": f"toolu_{secrets.token_hex(12)}"}
        events = self._open({**block, "name": call.name, "input": {}})
        self.content[-1]["input"] = call.arguments
        written = json.dumps(call.arguments, ensure_ascii=False)
        return [*events, self._delta("input_json_delta", "partial_json", written)]

    def _open(self, block: dict[str, Any]) -> list[Event]:
        events = self._close()
        if block["type"] == "thinking":
            block["signature"] = ""
        self.content.append(block)
        start = {"type": "content_block_start", "index": len(self.content) - 1}
        return [*events, {**start, "content_block": dict(block)}]

    def _close(self) -> list[Event]:
        """Ends the last block. Clients give a thought back only with a signature."""
        if not self.content:
            return []
        events: list[Event] = []
        last = self.content[-1]
        if last["type"] == "thinking":
            last["signature"], self._hidden = signature(self._hidden), ""
            events = [self._delta("signature_delta", "signature", last["signature"])]
        index = len(self.content) - 1
        return [*events, {"type": "content_block_stop", "index": index}]

    def _delta(self, kind: str, key: str, value: str) -> Event:
        told = {"type": "content_block_delta", "index": len(self.content) - 1}
        return {**told, "delta": {"type": kind, key: value}}
