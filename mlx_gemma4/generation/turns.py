"""The turns of a conversation: its messages, and how an answer comes to follow them.

The messages are those of every chat API: role and content, an assistant's also with
`reasoning` and `tool_calls`. A turn changes them only once something was answered, so
that a failed or instantly stopped turn leaves the conversation as it was.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..model import Gemma4
from ..prompt.processor import Processor
from .answer import Chunk, Response
from .loop import stream_generate
from .prefix import PrefixCache


class Turns:
    """Messages with one model. Each turn prefills only what is new in it.

    `last` is the last answer, as far as it came.
    """

    def __init__(
        self,
        model: Gemma4,
        processor: Processor,
        system: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        self.model = model
        self.processor = processor
        self.system = system
        self.tools = tools
        self.messages: list[dict[str, Any]] = []
        self.last: Response | None = None
        self._prefix = PrefixCache(model)
        self._answers = 0

    def question(self) -> dict[str, Any] | None:
        """The user's last message."""
        asked = (m for m in reversed(self.messages) if m["role"] == "user")
        return next(asked, None)

    def unanswered(self) -> list[dict[str, Any]]:
        """The messages up to the last question or tool's result."""
        messages = list(self.messages)
        while messages and messages[-1]["role"] == "assistant":
            messages.pop()
        return messages

    def undo(self) -> dict[str, Any] | None:
        """Takes back the last question and all that followed; returns the question."""
        message = self.question()
        while message is not None and self.messages.pop() is not message:
            pass
        return message

    def open_call(self) -> dict[str, Any] | None:
        """The first call of the last answer that has no result yet."""
        answered = 0
        for message in reversed(self.messages):
            if message["role"] != "tool":
                calls = message.get("tool_calls", [])
                return calls[answered] if answered < len(calls) else None
            answered += 1
        return None

    def clear(self) -> None:
        """Forgets what was said; `system` and `tools` stay."""
        self.messages = []
        self.last = None

    def reply(
        self, messages: list[dict[str, Any]], options: Mapping[str, Any]
    ) -> Iterator[Chunk]:
        """Answers `messages`; once something came, they and it are the conversation.

        options: those of `stream_generate`. Every answer gets a seed of its own,
            counted from `seed`: regenerating one has to differ.
        """
        system = [{"role": "system", "content": self.system}] if self.system else []
        seed, answer = options.get("seed"), Response()
        if seed is not None:
            options = {**options, "seed": seed + self._answers}
        self._answers += 1
        stream = stream_generate(
            self.model,
            self.processor,
            system + messages,
            tools=self.tools,
            prefix=self._prefix,
            **options,
        )
        try:
            for chunk in stream:
                answer.add(chunk)
                yield chunk
        finally:
            self.last = answer
            if answer.text or answer.tool_calls or answer.finish_reason:
                self.messages = [*messages, answer.message()]
