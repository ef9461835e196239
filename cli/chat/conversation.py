"""A conversation: its messages, and how each answer is made from them.

The messages are the library's: role and content, an assistant's also with
`reasoning` and `tool_calls`. A turn changes them only once something was answered,
so that a failed or instantly stopped turn leaves the conversation as it was.
"""

from collections.abc import Iterator

from mlx_gemma4.generation.answer import Chunk, Response
from mlx_gemma4.generation.loop import stream_generate
from mlx_gemma4.generation.prefix import PrefixCache
from mlx_gemma4.model import Gemma4
from mlx_gemma4.prompt.processor import Processor

from ..attach.messages import Message, Part, content_of
from ..settings import Settings


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
        self.asking: list[Message] = []  # what the answer under way follows
        self.last: Response | None = None
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
        self.asking = self.messages
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
        self.asking = messages
        return self._answer(messages, sent)

    def _answer(self, messages: list[Message], sent: int) -> Iterator[Chunk]:
        settings = self.settings
        system = [{"role": "system", "content": self.system}] if self.system else []
        answer, options = Response(), settings.sampling
        if settings.seed is not None:
            # Every answer gets its own: regenerating one has to differ.
            options["seed"] = settings.seed + self._answers
        self._answers += 1
        stream = stream_generate(
            self.model,
            self.processor,
            system + messages,
            tools=self.tools,
            thinking=settings.think,
            image_tokens=settings.image_tokens,
            control_tokens=settings.control_tokens,
            max_tokens=settings.max_tokens,
            stop=settings.stop,
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
                del self.attached[:sent]
