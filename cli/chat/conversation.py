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
        self.declared = tools  # by a file: their results are the user's to give
        self.settings = settings
        self.attached: list[Part] = []  # goes with the next message
        self.form: dict[str, str] = {}  # that answers are to have, if any
        self.strict_tools = False
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
        self.give({"role": "tool", "tool_call_id": call["id"], "content": text})
        return self._reply(self.messages) if self.open_call() is None else iter(())

    def give(self, result: Message) -> None:
        """Takes the result of the call that is open."""
        self.messages.append(result)
        self.asking = self.messages

    def declare(self, tools: list[Message]) -> None:
        """Lets the model call these as well."""
        self.tools = [*(self.declared or ()), *tools]

    def again(self) -> Iterator[Chunk]:
        """Answers the last message once more; the old answer stays if this fails."""
        return self._reply(self.unanswered())

    def go_on(self) -> Iterator[Chunk]:
        """Goes on with the last answer where it was cut, or answers the results of its
        calls."""
        if self.has_results():
            return self._reply(self.messages)
        self.asking = self.messages
        return self.resume(self._options())

    def has_results(self) -> bool:
        """Whether the last answer's calls have their results, and no answer."""
        called = bool(self.messages) and self.messages[-1]["role"] == "tool"
        return called and self.open_call() is None

    def used(self) -> int:
        """How many tokens of the context the model has read and written last."""
        return len(self._prefix.tokens) if self.messages else 0

    def clear(self) -> None:
        super().clear()
        self.attached = []

    def conclude(self) -> Iterator[Chunk]:
        """Answers the results of calls, and calls nothing more."""
        return self._reply(self.messages, tool_choice="none")

    def asked(self) -> dict[str, Any]:
        """What answers the messages, where that is made beside others."""
        return self.request(self.messages, self._options())

    def taking(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """Takes such an answer as it comes."""
        return self.taken(chunks, self.messages, self._options())

    def _reply(
        self,
        messages: list[Message],
        sent: int = 0,
        tool_choice: str | None = None,
    ) -> Iterator[Chunk]:
        self.asking = messages
        options = {**self._options(), "tool_choice": tool_choice}
        return self._answered(messages, sent, options)

    def _answered(
        self, messages: list[Message], sent: int, options: dict[str, Any]
    ) -> Iterator[Chunk]:
        before = self.messages
        try:
            yield from self.reply(messages, options)
        finally:
            if self.messages is not before:  # it was answered
                del self.attached[:sent]

    def _options(self) -> dict[str, Any]:
        """The settings and the form as `stream_generate` takes them."""
        strict = {"strict_tools": self.strict_tools}
        return {**self.settings.options, **strict, **self.form}
