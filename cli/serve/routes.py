"""What a protocol offers to the server, and what the server gives it to answer with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import Refused
from .exchange import Exchange
from .guard import Guard
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


@dataclass(frozen=True)
class Site:
    """All that is served, to whom. log: whether each reply gets a line on stderr."""

    service: Service
    routes: Sequence[Route]
    guard: Guard
    log: bool = True

    def at(self, path: str) -> list[Route]:
        """What answers at a path, by any method."""
        return [r for r in self.routes if r.path == path] or [
            r for r in self.routes if r.path[-1] == "/" and path.startswith(r.path)
        ]

    def route(self, method: str, path: str) -> Route:
        """What answers a request. Raises Refused where nothing does."""
        at = self.at(path)
        for route in at:
            if route.method == method:
                return route
        if at:
            methods = ", ".join(route.method for route in at)
            raise Refused(405, f"{path} takes {methods}, not {method}.")
        paths = dict.fromkeys(r.path for r in self.routes if r.path[-1] != "/")
        served = ", ".join(f"/v1{path}" for path in paths)
        where = repr(path[:200]) if path != "/" else "this address alone"
        raise Refused(404, f"Nothing is served at {where}; there are {served}.")
