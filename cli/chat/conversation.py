"""A conversation of the command line: turns, settings that can change between them, and
files that wait for the next message."""

from collections.abc import Iterator
from typing import Any

from mlx_gemma4.generation.answer import Chunk
from mlx_gemma4.generation.turns import Turns
from mlx_gemma4.model import Gemma4
from mlx_gemma4.prompt.processor import Processor

from ..attach.messages import Message, Part, content_of
from ..settings import Settings


class Conversation(Turns):
    def __init__(
        self,
        model: Gemma4,
        processor: Processor,
        settings: Settings,
        system: str | None = None,
        tools: list[Message] | None = None,
    ) -> None:
        super().__init__(model, processor, system, tools)
        self.settings = settings
        self.attached: list[Part] = []  # goes with the next message
        self.form: dict[str, str] = {}  # that answers are to have, if any
        self.asking: list[Message] = []  # what the answer under way follows

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
        self.asking = self.messages
        return self._reply(self.messages) if self.open_call() is None else iter(())

    def again(self) -> Iterator[Chunk]:
        """Answers the last message once more; the old answer stays if this fails."""
        return self._reply(self.unanswered())

    def go_on(self) -> Iterator[Chunk]:
        """Goes on with the last answer where it was cut."""
        self.asking = self.messages
        return self.resume(self._options())

    def used(self) -> int:
        """How many tokens of the context the model has read and written last."""
        return len(self._prefix.tokens) if self.messages else 0

    def clear(self) -> None:
        super().clear()
        self.attached = []

    def _reply(self, messages: list[Message], sent: int = 0) -> Iterator[Chunk]:
        self.asking = messages
        return self._answered(messages, sent)

    def _answered(self, messages: list[Message], sent: int) -> Iterator[Chunk]:
        before = self.messages
        try:
            yield from self.reply(messages, self._options())
        finally:
            if self.messages is not before:  # it was answered
                del self.attached[:sent]

    def _options(self) -> dict[str, Any]:
        """The settings and the form as `stream_generate` takes them."""
        return {**self.settings.options, **self.form}
