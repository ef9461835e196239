"""Anthropic's /v1/messages, as Claude Code and the SDKs call it."""

from collections.abc import Iterator
from typing import Any

from ...serve.engine import Engine
from ...serve.errors import Refused
from ...serve.exchange import Exchange
from ...serve.routes import Route, Service
from ..chat import noted
from .asked import UNTHREADED, Request, request_of
from .reply import Event, Reply

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}
# What clients look for to shorten a conversation and try again.
START = "prompt is too long"
TOO_LONG = START + ": {} tokens > {} maximum"


def error_of(error: Refused) -> dict[str, Any]:
    """How this protocol says what went wrong."""
    message = error.message
    if error.code == "context_length_exceeded":
        counts = error.counts
        message = TOO_LONG.format(*counts) if counts else f"{START}: {message}"
    kind = TYPES.get(error.status, "api_error")
    told: dict[str, Any] = {"type": kind, "message": message}
    if error.code == UNTHREADED:
        told["details"] = {"error_code": UNTHREADED, "unsupported": [error.param]}
    return {"type": "error", "error": told}


def answer(exchange: Exchange, service: Service) -> None:
    """POST /messages: the answer, or the events of it."""
    request = request_of(exchange.json(), service.media)
    reply = Reply(request.model, service.context, request.begun, request.shows_thoughts)
    job = service.worker.submit(lambda engine: engine.answer(request.asked))
    begun: list[Event] = [reply.start()]
    for chunk in exchange.items(job, request.streams):
        events, begun = [*begun, *reply.add(chunk)], []
        for event in events if request.streams else ():
            exchange.event(event, event["type"])
        if chunk.stats is not None:
            exchange.noted = noted(chunk.stats)
    if not request.streams:
        exchange.reply_json(200, reply.message())


def count(exchange: Exchange, service: Service) -> None:
    """POST /messages/count_tokens."""
    request = request_of(exchange.json(), service.media, counts=True)
    job = service.worker.submit(lambda engine: _counted(engine, request))
    for tokens in exchange.items(job):
        exchange.reply_json(200, {"input_tokens": tokens})


def _counted(engine: Engine, request: Request) -> Iterator[int]:
    yield engine.count(request.asked)


ROUTES = (
    Route("POST", "/messages", answer, error_of, "error"),
    Route("POST", "/messages/count_tokens", count, error_of, "error"),
)
