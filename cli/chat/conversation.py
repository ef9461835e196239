"""A conversation: its messages, and how each answer is made from them.

The messages are the library's: role and content, an assistant's also with
`reasoning` and `tool_calls`. A turn changes them only once something was answered,
so that a failed or instantly stopped turn leaves the conversation as it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mlx_gemma4.chat.tools import ToolCall, openai_call
from mlx_gemma4.generation.loop import Chunk, Stats, stream_generate
from mlx_gemma4.generation.prefix import PrefixCache
from mlx_gemma4.model import Gemma4
from mlx_gemma4.prompt.processor import Processor

from ..settings import Settings
from .attach import Part, content_of

Message = dict[str, Any]


@dataclass
class Turn:
    """One answer, as far as it has come."""

    text: str = ""
    thought: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    finish_reason: str = "interrupted"
    stats: Stats | None = None

    def add(self, chunk: Chunk) -> None:
        self.text += chunk.text
        self.thought += chunk.thought
        self.tool_calls += chunk.tool_calls
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self.stats = chunk.stats or self.stats

    def message(self) -> Message:
        message: Message = {"role": "assistant", "content": self.text}
        if self.thought:
            message["reasoning"] = self.thought
        if self.tool_calls:
            message["tool_calls"] = [
                openai_call(call, f"call_{n}") for n, call in enumerate(self.tool_calls)
            ]
        return message


class Conversation:
    """Messages with one model. Each turn prefills only what is new in it."""

    def __init__(
        self,
        model: Gemma4,
        processor: Processor,
        settings: Settings,
        system: str | None = None,
        tools: list[Message] | None = None,
    ) -> None:
        self.model = model
        self.processor = processor
        self.settings = settings
        self.system = system
        self.tools = tools
        self.messages: list[Message] = []
        self.attached: list[Part] = []  # goes with the next message
        self.last: Turn | None = None
        self._prefix = PrefixCache(model)
        self._answers = 0

    def ask(self, text: str) -> Iterator[Chunk]:
        """Answers a user's message, or takes `text` as the result of a tool call.

        With a message goes what is attached, and is gone once it was answered.
        """
        call = self.open_call()
        if call is None:
            content = content_of(text, self.attached)
            messages = [*self.messages, {"role": "user", "content": content}]
            return self._reply(messages, sent=len(self.attached))
        self.messages.append(
            {"role": "tool", "tool_call_id": call["id"], "content": text}
        )
        return self._reply(self.messages) if self.open_call() is None else iter(())

    def again(self) -> Iterator[Chunk]:
        """Answers the last message once more; the old answer stays if this fails."""
        messages = list(self.messages)
        while messages and messages[-1]["role"] == "assistant":
            messages.pop()
        return self._reply(messages)

    def question(self) -> Message | None:
        """The user's last message."""
        asked = (m for m in reversed(self.messages) if m["role"] == "user")
        return next(asked, None)

    def undo(self) -> Message | None:
        """Takes back the last question and all that followed; returns the question."""
        message = self.question()
        while message is not None and self.messages.pop() is not message:
            pass
        return message

    def open_call(self) -> Message | None:
        """The first call of the last answer that has no result yet."""
        answered = 0
        for message in reversed(self.messages):
            if message["role"] != "tool":
                calls = message.get("tool_calls", [])
                return calls[answered] if answered < len(calls) else None
            answered += 1
        return None

    def clear(self) -> None:
        self.messages = []
        self.attached = []
        self.last = None

    def _reply(self, messages: list[Message], sent: int = 0) -> Iterator[Chunk]:
        settings = self.settings
        system = [{"role": "system", "content": self.system}] if self.system else []
        turn = Turn()
        # Every answer gets a seed of its own: regenerating one has to differ.
        seed = None if settings.seed is None else settings.seed + self._answers
        self._answers += 1
        stream = stream_generate(
            self.model,
            self.processor,
            system + messages,
            tools=self.tools,
            thinking=settings.think,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            min_p=settings.min_p,
            repetition_penalty=settings.repetition_penalty,
            seed=seed,
            stop=settings.stop,
            prefix=self._prefix,
        )
        try:
            for chunk in stream:
                turn.add(chunk)
                yield chunk
        finally:
            self.last = turn
            if turn.text or turn.tool_calls or turn.finish_reason != "interrupted":
                self.messages = [*messages, turn.message()]
                del self.attached[:sent]
