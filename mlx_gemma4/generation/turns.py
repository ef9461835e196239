"""The turns of a conversation: its messages, and how an answer comes to follow them.

The messages are those of every chat API: role and content, an assistant's also with
`reasoning` and `tool_calls`. A turn changes them only once something was answered, so
that a failed or instantly stopped turn leaves the conversation as it was.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..decoding.prefix import Keeping, PrefixCache
from ..errors import ChatError
from ..model import Gemma4
from ..prompt.processor import Processor
from .answer import Chunk, Response
from .asked import as_written, check_media
from .loop import stream_generate
from .room import room_for

SAID = ("content", "reasoning")  # what a message has of an answer's text and thought


@dataclass(frozen=True)
class Made:
    """An answer of this model, and the options that it is gone on with."""

    message: Mapping[str, Any]
    ended: bool
    options: Mapping[str, Any]


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
        self._keeping: Keeping | None = None
        self._answers = 0
        self._made: Made | None = None

    def question(self) -> dict[str, Any] | None:
        """The user's last message."""
        asked = (m for m in reversed(self.messages) if m["role"] == "user")
        return next(asked, None)

    def unanswered(self) -> list[dict[str, Any]]:
        """The messages up to the last question, or the results of all calls."""
        messages = list(self.messages)
        part = self.open_call() is not None  # of the results are no question
        while messages and (part or messages[-1]["role"] == "assistant"):
            part = messages.pop()["role"] != "assistant" and part
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

    def let_go(self) -> None:
        """Gives up the model, so that its memory is free; `change_model` follows."""
        del self.model, self.processor, self._prefix

    def change_model(self, model: Gemma4, processor: Processor) -> None:
        """Goes on with another model, which has read nothing of what was said."""
        self.model, self.processor = model, processor
        self._prefix = PrefixCache(model)
        self._keeping = self._made = None

    def remember_in(self, keeping: Keeping | None) -> None:
        """Begins with what is kept there of the same words; `remember` adds to it."""
        self._keeping = self._prefix.keeping = keeping

    def remember(self, least: int = 1, answer: bool = True) -> None:
        """Keeps what the model has read, if `least` tokens of it are not kept yet, so
        that a later process goes on from there.

        answer: also what it has written last.
        """
        if self._keeping is not None:
            if not answer:
                self._prefix.back_to_prompt()
            self._keeping.keep(self._prefix, least)

    def check_media(
        self, parts: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> None:
        """Raises RoomError, ContextError or MediaError for media that go with the next
        message and will not fit behind what was said, before they are read.

        options: those of `stream_generate`.
        """
        if not parts:
            return
        said = [] if self.open_call() else self.messages  # none follows an open call
        asked = [*said, {"role": "user", "content": list(parts)}]
        request = self.request(asked, options)
        messages = as_written(request["messages"])
        thinking, controls = options["thinking"], options["control_tokens"]
        rendered = self.processor.render(
            messages, self.tools, thinking, control_tokens=controls
        )
        fits = room_for(self.model, options["kv_bits"], options["max_context"])
        budget = options["image_tokens"]
        check_media(self.processor, messages, rendered, budget, fits)

    def reply(
        self, messages: list[dict[str, Any]], options: Mapping[str, Any]
    ) -> Iterator[Chunk]:
        """Answers `messages`; once something came, they and it are the conversation.

        options: those of `stream_generate`. Every answer gets a seed of its own,
            counted from `seed`: regenerating one has to differ.
        """
        seed = options.get("seed")
        seed = secrets.randbits(32) if seed is None else seed + self._answers
        self._answers += 1
        yield from self._answer(messages, {**options, "seed": seed})

    def resume(self, options: Mapping[str, Any]) -> Iterator[Chunk]:
        """Goes on with the last answer where it was cut; the chunks are what is new.

        Its tokens are those that would have come. Of an answer by another model, or
        from elsewhere, only the text is known, and that is gone on with.
        options: as for `reply`. What an answer began with, its seed and whether it
            thinks, stays.

        Raises ChatError at once where there is no answer, or it is at its end.
        """
        *messages, cut = self.messages or [{}]
        if cut.get("role") != "assistant":
            raise ChatError("There is no answer to go on with.")
        if self._made is not None and self._made.message is cut:
            if self._made.ended:
                raise ChatError("The last answer is at its end: ask for more in words.")
            return self._answer(messages, {**options, **self._made.options}, cut)
        thinking = options["thinking"] or bool(cut.get("reasoning"))
        begun = {**options, "begun": cut, "thinking": thinking}
        return self._answer(messages, begun, cut)

    def _answer(
        self,
        messages: list[dict[str, Any]],
        options: Mapping[str, Any],
        cut: Mapping[str, Any] | None = None,
    ) -> Iterator[Chunk]:
        """`cut` is what has been said of the answer."""
        kv_bits = options.get("kv_bits")
        if kv_bits != self._prefix.kv_bits:  # all is read again
            keeping = self._keeping
            self._prefix = PrefixCache(self.model, kv_bits=kv_bits, keeping=keeping)
        stream = stream_generate(
            self.model,
            self.processor,
            prefix=self._prefix,
            **self.request(messages, options),
        )
        yield from self.taken(stream, messages, options, cut)

    def request(
        self, messages: list[dict[str, Any]], options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The options of `stream_generate` for an answer to `messages`."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return {"messages": system + messages, "tools": self.tools, **options}

    def taken(
        self,
        stream: Iterator[Chunk],
        messages: list[dict[str, Any]],
        options: Mapping[str, Any],
        cut: Mapping[str, Any] | None = None,
    ) -> Iterator[Chunk]:
        """An answer to `messages` as it comes; then they and it are the conversation.
        `cut` is what had been said of it."""
        answer, came = Response(), False
        said, thought = (len(cut.get(k, "")) if cut else 0 for k in SAID)
        calls = len(cut.get("tool_calls", ())) if cut else 0
        try:
            for chunk in stream:
                answer.add(chunk)
                new = answer.text[said:], answer.thought[thought:]
                said, thought = said + len(new[0]), thought + len(new[1])
                called = tuple(answer.tool_calls[calls:])
                calls += len(called)
                came = came or any(new) or bool(called)
                yield replace(chunk, text=new[0], thought=new[1], tool_calls=called)
        finally:
            self.last = answer
            more = came if cut else answer.text or answer.tool_calls
            if answer.finish_reason or more:
                self.messages = [*messages, answer.message()]
                ended = answer.finish_reason not in (None, "length")
                kept = {key: options.get(key) for key in ("seed", "thinking")}
                kept["begun"] = answer.tokens
                self._made = Made(self.messages[-1], ended, kept)
