"""What a protocol offers to the server, and what the server gives it to answer with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import Refused
from .exchange import Exchange
from .media import MediaRules
from .worker import Worker


@dataclass(frozen=True)
class Service:
    """name: of the model, as clients are told; created: when, in seconds of Unix time;
    context: how many tokens it reads and writes at most."""

    worker: Worker
    name: str
    context: int
    created: int
    media: MediaRules


def openai_error(error: Refused) -> dict[str, Any]:
    told = {"message": error.message, "type": error.type}
    return {"error": {**told, "param": error.param, "code": error.code}}


@dataclass(frozen=True)
class Route:
    """path: without /v1; one that ends with / takes all below it.

    error: how it says what went wrong; event: the event's name, in a stream.
    """

    method: str
    path: str
    answer: Callable[[Exchange, Service], None]
    error: Callable[[Refused], Mapping[str, Any]] = openai_error
    event: str | None = None
