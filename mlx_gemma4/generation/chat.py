"""A conversation from Python: ask, and what was said before is known."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..decoding.drafts import Draft
from ..errors import ChatError
from ..forms.schema import Schema
from ..model import Gemma4
from ..prompt.attachments import media_parts
from ..prompt.processor import Processor
from .answer import Chunk, Response
from .turns import Turns

Message = Mapping[str, Any]


class Chat(Turns):
    """A conversation with one model.

        chat = Chat(model, processor, system="Be brief.", temperature=0)
        print(chat.ask("What is in it?", images="photo.jpg").text)
        print(chat.ask("And behind that?").text)

    `messages` is what was said, yours to read and to change; `last` the last answer.
    Each turn reads only what is new in it, and a file only once.

    system: the system instruction, which is none of the messages.
    tools: what the model may call; pass the calls' results to `ask`.
    messages: an earlier conversation, to go on with.
    seed: of the first answer; each later one takes the next number.

    The other options are those of `stream_generate`, for all answers.
    """

    def __init__(
        self,
        model: Gemma4,
        processor: Processor,
        *,
        system: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        messages: Sequence[Message] = (),
        thinking: bool = False,
        think_budget: int | None = None,
        image_tokens: int | None = None,
        control_tokens: bool = False,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        logit_bias: Mapping[int, float] | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        stop_loops: bool = True,
        draft: Draft | None = None,
        kv_bits: int | None = None,
        max_context: int | None = None,
        schema: str | Schema | None = None,
        regex: str | None = None,
        grammar: str | None = None,
        strict_tools: bool = False,
        tool_choice: str | None = None,
        parallel_calls: bool = True,
    ) -> None:
        super().__init__(model, processor, system, tools)
        self.messages = [dict(message) for message in messages]
        self.options: dict[str, Any] = {
            "thinking": thinking,
            "think_budget": think_budget,
            "image_tokens": image_tokens,
            "control_tokens": control_tokens,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "min_p": min_p,
            "repetition_penalty": repetition_penalty,
            "presence_penalty": presence_penalty,
            "frequency_penalty": frequency_penalty,
            "logit_bias": logit_bias,
            "seed": seed,
            "stop": stop,
            "stop_loops": stop_loops,
            "draft": draft,
            "kv_bits": kv_bits,
            "max_context": max_context,
            "schema": schema,
            "regex": regex,
            "grammar": grammar,
            "strict_tools": strict_tools,
            "tool_choice": tool_choice,
            "parallel_calls": parallel_calls,
        }

    def ask(
        self,
        message: str | Message | Sequence[Message],
        *,
        images: Any = None,
        audio: Any = None,
        videos: Any = None,
    ) -> Response:
        """The whole answer; takes what `stream` does."""
        return Response.of(
            self.stream(message, images=images, audio=audio, videos=videos)
        )

    def stream(
        self,
        message: str | Message | Sequence[Message],
        *,
        images: Any = None,
        audio: Any = None,
        videos: Any = None,
    ) -> Iterator[Chunk]:
        """Answers a message, one chunk per token. Stop early, and what came is kept.

        message: a text, a message, or several: the results of all open calls.
        images, audio, videos: go before a text. One, or a list: a path or data URL, a
            PIL picture, `(samples, rate)`; a list of frames stands within a list.

        Raises ChatError and MediaError as `stream_generate` does; the conversation then
        is what it was.
        """
        media = {"image": images, "audio": audio, "video": videos}
        parts = [_part(k, each) for k, given in media.items() for each in _list(given)]
        if isinstance(message, str):
            text = {"type": "text", "text": message}
            content = [*parts, text] if parts else message
            message = {"role": "user", "content": content}
        elif parts:
            raise ChatError(
                "images, audio and videos go with a text: a message holds its own."
            )
        if not message or not isinstance(message, Mapping | Sequence):
            raise ChatError(
                f"message is {message!r}; it must be a text, a message or several."
            )
        added = [message] if isinstance(message, Mapping) else message
        self.check_media([p for m in added for _, p in media_parts(m)], self.options)
        read, budget = self.processor.prepare_message, self.options["image_tokens"]
        messages = [*self.messages, *(read(each, budget) for each in added)]
        yield from self.reply(messages, self.options)

    def again(self) -> Response:
        """Another answer to the last message; the old one stays if this fails."""
        return Response.of(self.reply(self.unanswered(), self.options))

    def go_on(self) -> Response:
        """The last answer, gone on with where it was cut: stopped early, or by
        max_tokens. Raises ChatError where it is at its end."""
        Response.of(self.resume(self.options))
        assert self.last is not None
        return self.last


def _list(given: Any) -> list[Any]:
    """What was given as one medium or as a list of them."""
    if given is None:
        return []
    return given if isinstance(given, list) else [given]


def _part(kind: str, source: Any) -> dict[str, Any]:
    is_path = isinstance(source, str | Path)
    return {"type": kind, "path" if is_path else kind: source}
