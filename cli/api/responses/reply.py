"""A response as OpenAI's API writes it: what was asked, and what came of it."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlx_gemma4.generation.answer import UNFINISHED

from ...serve.errors import Refused
from .declared import Declared
from .written import Event, Written, new_id

if TYPE_CHECKING:
    from mlx_gemma4 import Chunk, Stats

# What a request states and its response repeats, with what holds where it does not.
REPEATED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "store": True,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
NOT_HERE = {"background": False, "max_tool_calls": None, "top_logprobs": 0}


class Reply:
    """Follows an answer, chunk by chunk."""

    def __init__(
        self, body: Mapping[str, Any], declared: Declared, written: Written, model: str
    ) -> None:
        self.written = written
        self._events = 0
        self.stats: Stats | None = None
        stated = {k: v for k, v in body.items() if k in REPEATED and v is not None}
        reasoning = body.get("reasoning") or {}
        self.response: dict[str, Any] = {
            "id": new_id("resp"),
            "object": "response",
            "created_at": int(time.time()),
            "completed_at": None,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": model,
            "output": [],
            "tools": declared.stated,
            "reasoning": {key: reasoning.get(key) for key in ("effort", "summary")},
            "usage": None,
            **NOT_HERE,
            **REPEATED,
            **stated,
        }

    def take(self, chunk: "Chunk") -> list[Event]:
        """The events of a chunk; those of the last one end the response."""
        begun = self._begun()
        events = [*self.written.take(chunk)]
        if chunk.finish_reason is None:
            return [*begun, *map(self._numbered, events)]
        self.stats = chunk.stats
        cut = chunk.finish_reason in UNFINISHED
        status = "incomplete" if cut else "completed"
        events += self.written.close(status)
        if cut:
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
        return [*begun, *map(self._numbered, events), self._ended(status)]

    def wait(self) -> list[Event]:
        """What tells that the answer is still to come."""
        return self._begun() or [self._state("response.in_progress")]

    def fail(self, error: Refused) -> list[Event]:
        """What ends a response whose answer cannot go on."""
        begun = self._begun()
        events = [*map(self._numbered, self.written.close("incomplete"))]
        usual = "server_error" if error.status >= 500 else "invalid_prompt"
        code = error.code or usual
        self.response["error"] = {"code": code, "message": error.message}
        return [*begun, *events, self._ended("failed")]

    def _begun(self) -> list[Event]:
        """What stands before all other events."""
        if self._events:
            return []
        return [self._state("response.created"), self._state("response.in_progress")]

    def _ended(self, status: str) -> Event:
        self.response |= {"status": status, "output": self.written.items}
        if status == "completed":
            self.response["completed_at"] = int(time.time())
        if self.stats is not None:
            self.response["usage"] = usage(self.stats)
        return self._state(f"response.{status}")

    def _state(self, kind: str) -> Event:
        return self._numbered({"type": kind, "response": dict(self.response)})

    def _numbered(self, event: Event) -> Event:
        self._events += 1
        return {**event, "sequence_number": self._events - 1}


def usage(stats: "Stats") -> dict[str, Any]:
    read, written = stats.prompt_tokens, stats.completion_tokens
    cached = {"cached_tokens": stats.cached_tokens, "cache_write_tokens": 0}
    return {
        "input_tokens": read,
        "input_tokens_details": cached,
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": stats.thought_tokens},
        "total_tokens": read + written,
    }
