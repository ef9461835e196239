"""An answer to a prompt of `llm`, event by event."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import llm
from llm.parts import StreamEvent

from ..serve.engine import Asked
from ..serve.errors import Refused
from .memory import Memory
from .messages import asked_of

if TYPE_CHECKING:
    from mlx_gemma4 import Chunk

LOOK = 0.25  # seconds between looks at whether somebody still waits
MEMORY = Memory()

Response = llm.Response | llm.AsyncResponse
Conversation = llm.Conversation | llm.AsyncConversation | None


def answer(
    name: str, prompt: llm.Prompt, response: Response, conversation: Conversation
) -> Iterator[StreamEvent]:
    """Raises llm.ModelError."""
    with told():
        asked = asked_of(prompt, conversation)
        model = MEMORY.model(name)
        response.set_resolved_model(model.name)
        job = model.worker().submit(lambda engine: engine.answer(asked))
        try:
            while (chunk := job.take(LOOK)) is not None or not job.ended:
                if chunk is not None:
                    yield from events(chunk, response)
        finally:
            job.cancel()
        refuse_cut(asked, response)


async def answer_async(
    name: str, prompt: llm.Prompt, response: Response, conversation: Conversation
) -> AsyncIterator[StreamEvent]:
    """The same; whatever waits does so in another thread."""
    with told():
        asked = await asyncio.to_thread(asked_of, prompt, conversation)
        model = await asyncio.to_thread(MEMORY.model, name)
        response.set_resolved_model(model.name)
        worker = await asyncio.to_thread(model.worker)
        job = worker.submit(lambda engine: engine.answer(asked))
        try:
            while (
                chunk := await asyncio.to_thread(job.take, LOOK)
            ) is not None or not job.ended:
                for event in events(chunk, response) if chunk is not None else ():
                    yield event
        finally:
            job.cancel()
        refuse_cut(asked, response)


@contextmanager
def told() -> Iterator[None]:
    """What can go wrong, in the words of an error that `llm` shows."""
    try:
        yield
    except (ValueError, OSError, MemoryError, Refused) as error:
        raise llm.ModelError(str(error)) from error


def events(chunk: "Chunk", response: Response) -> Iterator[StreamEvent]:
    if chunk.thought:
        yield StreamEvent(type="reasoning", chunk=chunk.thought)
    if chunk.text:
        yield StreamEvent(type="text", chunk=chunk.text)
    for call in chunk.tool_calls:
        response.add_tool_call(llm.ToolCall(call.name, call.arguments))
    if chunk.stats is not None:
        stats = chunk.stats
        cached = {"cached_tokens": stats.cached_tokens} if stats.cached_tokens else None
        response.set_usage(
            input=stats.prompt_tokens, output=stats.completion_tokens, details=cached
        )
        response.response_json = {
            "finish_reason": chunk.finish_reason,
            "seed": stats.seed,
        }


def refuse_cut(asked: Asked, response: Response) -> None:
    """Raises ValueError for an answer that was cut before it had its schema."""
    ended = (response.response_json or {}).get("finish_reason")
    if asked.form and ended == "length":
        raise ValueError(
            "The answer was cut before it had the schema asked for: raise "
            "`-o max_tokens N`, or ask for less."
        )
