"""An answer to a prompt of `llm`, event by event."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import llm
from llm.parts import StreamEvent

from mlx_gemma4.generation.answer import Chunk
from mlx_gemma4.generation.answer import Response as Whole
from mlx_gemma4.tools.run import CALLED

from ..serve.engine import Asked, Engine
from ..serve.errors import Refused
from .memory import Memory
from .messages import asked_of

LOOK = 0.25  # seconds between looks at whether somebody still waits
MORE = "Raise `-o max_tokens N`, or ask for less."
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
        job = model.worker().submit(lambda engine: begun(engine, asked))
        whole = Whole()
        try:
            while not job.ended:
                chunk = job.take(LOOK)
                if chunk is not None:
                    whole.add(chunk)
                    yield from events(chunk)
        finally:
            job.cancel()
        close(response, whole, asked)


async def answer_async(
    name: str, prompt: llm.Prompt, response: Response, conversation: Conversation
) -> AsyncIterator[StreamEvent]:
    """The same; whatever waits does so in another thread."""
    with told():
        asked = await asyncio.to_thread(asked_of, prompt, conversation)
        model = await asyncio.to_thread(MEMORY.model, name)
        response.set_resolved_model(model.name)
        worker = await asyncio.to_thread(model.worker)
        job = worker.submit(lambda engine: begun(engine, asked))
        whole = Whole()
        try:
            while not job.ended:
                chunk = await asyncio.to_thread(job.take, LOOK)
                if chunk is not None:
                    whole.add(chunk)
                    for event in events(chunk):
                        yield event
        finally:
            job.cancel()
        close(response, whole, asked)


def begun(engine: Engine, asked: Asked) -> Iterator[Chunk]:
    """Each prompt says by itself how its context is kept."""
    engine.keep_in(asked.options.get("kv_bits"))
    return engine.answer(asked)


@contextmanager
def told() -> Iterator[None]:
    """What can go wrong, in the words of an error that `llm` shows."""
    try:
        yield
    except (ValueError, OSError, MemoryError, Refused) as error:
        raise llm.ModelError(str(error)) from error


def events(chunk: Chunk) -> Iterator[StreamEvent]:
    if chunk.thought:
        yield StreamEvent(type="reasoning", chunk=chunk.thought)
    if chunk.text:
        yield StreamEvent(type="text", chunk=chunk.text)


def close(response: Response, whole: Whole, asked: Asked) -> None:
    """Hands over what is known at the end. `llm` runs the calls then.

    Raises ValueError for an answer that was cut before it had its schema, or within its
    calls: these may lack what was meant.
    """
    reason, stats = whole.finish_reason, whole.stats
    response.response_json = {"finish_reason": reason}
    if stats is not None:
        response.response_json["seed"] = stats.seed
        cached = {"cached_tokens": stats.cached_tokens} if stats.cached_tokens else None
        response.set_usage(
            input=stats.prompt_tokens, output=stats.completion_tokens, details=cached
        )
    if whole.tool_calls and reason not in CALLED:
        raise ValueError("The answer was cut in its calls: none was run. " + MORE)
    if asked.form and reason == "length":
        raise ValueError(f"The answer was cut before it had its schema. {MORE}")
    for call in whole.tool_calls:
        response.add_tool_call(llm.ToolCall(call.name, call.arguments))
