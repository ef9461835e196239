"""`/v1/completions`: a text that is gone on with, without any chat template."""

import secrets
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..serve.engine import Asked, Engine
from ..serve.exchange import Exchange
from ..serve.routes import Route, Service
from .chat import Reply, finish_reason, noted, streaming, usage
from .fields import Fields
from .options import HARMLESS, SAMPLING, sampling

if TYPE_CHECKING:
    from mlx_gemma4 import Chunk

KNOWN = SAMPLING | {
    *("prompt", "stream", "stream_options", "n", "best_of", "echo", "suffix"),
}
KIND = "text_completion"
Prompt = str | list[int]


def prompt_of(fields: Fields) -> Prompt:
    """A text or ids of tokens; of a list of texts the only one. Raises Refused."""
    prompt = fields.values.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if isinstance(prompt, str) and prompt:
        return prompt
    if isinstance(prompt, list) and prompt and all(type(t) is int for t in prompt):
        return prompt
    raise fields.wrong("prompt", "must be one text, or a list of tokens' ids")


def complete(exchange: Exchange, service: Service) -> None:
    fields = Fields(exchange.json())
    fields.only(KNOWN, HARMLESS)
    for name, value in (("n", 1), ("best_of", 1), ("echo", False)):
        fields.must(name, value)
    fields.must("suffix", "")
    prompt, options = prompt_of(fields), sampling(fields)
    streams, with_usage = streaming(fields)

    def answer(engine: Engine) -> "Iterator[Chunk]":
        ids = prompt
        if isinstance(ids, str):
            ids = engine.processor.tokenizer.encode_text(ids)
        # Whatever the server was started with: there is nothing to think or call for.
        raw = {"thinking": False, "think_budget": None, "strict_tools": False}
        return engine.answer(Asked(tokens=ids, options=options | raw | {"plain": True}))

    reply = Reply(f"cmpl-{secrets.token_hex(12)}", int(time.time()), service.name)
    text, last = "", None
    for chunk in exchange.items(service.worker.submit(answer), streams):
        text += chunk.text
        last = chunk
        if streams and (chunk.text or chunk.finish_reason):
            ended = chunk.finish_reason and finish_reason(chunk.finish_reason, False)
            exchange.event(reply.part(KIND, [_choice(chunk.text, ended)]))
    assert last is not None and last.stats is not None
    exchange.noted = noted(last.stats)
    if not streams:
        choice = _choice(text, finish_reason(last.finish_reason, False))
        whole = reply.part(KIND, [choice])
        exchange.reply_json(200, {**whole, "usage": usage(last.stats)})
        return
    if with_usage:
        exchange.event({**reply.part(KIND, []), "usage": usage(last.stats)})
    exchange.event("[DONE]")


def _choice(text: str, reason: str | None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}


ROUTES = (Route("POST", "/completions", complete),)
