"""The models as `llm` knows them. What answers is imported when something is asked."""

from collections.abc import AsyncGenerator, Iterator
from typing import Literal

import llm
from llm.parts import StreamEvent
from pydantic import Field

ATTACHMENTS = frozenset(
    f"{kind}/{name}"
    for kind, names in {
        "image": "png jpeg gif webp tiff bmp x-ms-bmp heic heif avif",
        "audio": "wav x-wav flac x-flac ogg opus mpeg mp3 mp4 x-m4a aac x-aiff x-caf",
        "video": "mp4 quicktime x-matroska webm avi x-msvideo mpeg dvd x-ms-wmv x-flv",
        "application": "pdf ogg",
    }.items()
    for name in names.split()
)


class Options(llm.Options):
    """As those of `gemma4 chat`; None leaves a value to the model."""

    temperature: float | None = Field(
        None, description="0 always takes the likeliest token."
    )
    max_tokens: int | None = Field(None, description="The longest answer, in tokens.")
    think: bool | None = Field(None, description="Let the model think first.")
    think_budget: int | None = Field(
        None, description="The most tokens of a thought; then it is closed."
    )
    seed: int | None = Field(None, description="Makes sampling repeatable.")
    top_p: float | None = Field(
        None, description="Sample from this share of probability."
    )
    top_k: int | None = Field(
        None, description="Sample from this many tokens; 0 is all."
    )
    min_p: float | None = Field(
        None, description="Drop tokens below this share of the best."
    )
    repetition_penalty: float | None = Field(
        None, description="Above 1 discourages repetition."
    )
    presence_penalty: float | None = Field(
        None, description="Above 0 discourages tokens that the answer has."
    )
    frequency_penalty: float | None = Field(
        None, description="The same, more with each time that it has them."
    )
    stop: str | None = Field(None, description="End the answer before this text.")
    stop_loops: bool | None = Field(
        None,
        description="End an answer that says the same again and again (on unless off).",
    )
    draft: Literal["auto", "assistant", "lookup", "off"] | None = Field(
        None,
        description="What proposes tokens that the model only checks: its drafter "
        "(assistant), the text so far (lookup), both as it pays (auto), nothing (off).",
    )
    kv_bits: int | None = Field(
        None,
        description="8 keeps a long context in half the memory; answers change "
        "slightly. 0: as it is computed.",
    )
    max_context: int | None = Field(
        None, description="The most tokens of a conversation, which must fit in memory."
    )
    strict_tools: bool | None = Field(
        None, description="Hold calls to what their tools declare."
    )
    image_tokens: int | None = Field(
        None, description="The most tokens a picture takes: 70 to 1120."
    )


class _Shared:
    """What both kinds of model are: the same one, for programs of two kinds."""

    can_stream = True
    supports_schema = True
    supports_tools = True
    attachment_types = ATTACHMENTS
    Options = Options

    def __init__(self, name: str) -> None:
        self.model_id = name

    def _validate_attachments(
        self, attachments: list[llm.Attachment] | None = None
    ) -> None:
        """Nothing: a file is what its first bytes say. The guess of `llm` is none for
        many recordings of a telephone or a Mac."""


class Gemma(_Shared, llm.Model):
    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
    ) -> Iterator[str | StreamEvent]:
        from .answering import answer

        yield from answer(self.model_id, prompt, response, conversation)


class AsyncGemma(_Shared, llm.AsyncModel):
    async def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None,
    ) -> AsyncGenerator[str | StreamEvent, None]:
        from .answering import answer_async

        async for event in answer_async(self.model_id, prompt, response, conversation):
            yield event
