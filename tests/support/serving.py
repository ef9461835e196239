"""A server in this process, with its worker in a thread of its own."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mlx_gemma4.cli.api.routes import ROUTES
from mlx_gemma4.cli.serve.engine import Engine
from mlx_gemma4.cli.serve.guard import Guard
from mlx_gemma4.cli.serve.media import MediaRules
from mlx_gemma4.cli.serve.routes import Service, Site
from mlx_gemma4.cli.serve.server import Server
from mlx_gemma4.cli.serve.worker import LINE, Worker


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    data: bytes

    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class Served:
    server: Server
    worker: Worker
    engine: Engine

    @property
    def url(self) -> str:
        return f"{self.server.url}/v1"

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """A reply; body: bytes, or what is sent as JSON."""
        host, port = self.server.server_address[:2]
        connection = http.client.HTTPConnection(str(host), int(port), timeout=60)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        try:
            connection.request(method, path, data, headers or {})
            reply = connection.getresponse()
            named = {k.lower(): v for k, v in reply.getheaders()}
            return Reply(reply.status, named, reply.read())
        finally:
            connection.close()


@contextmanager
def served(
    make: Callable[[], Engine],
    guard: Guard | None = None,
    media: MediaRules | None = None,
    line: int = LINE,
    log: bool = False,
) -> Iterator[Served]:
    """make: makes the engine, in the worker's thread, or is one that is scripted."""
    worker, made = Worker(line), []
    ready = threading.Event()

    def work() -> None:
        try:
            made.append(make())
        finally:
            ready.set()
        worker.run(made[0])
        mx.clear_streams()  # of this thread: with them the process may end in abort

    threads = [threading.Thread(target=work)]
    threads[0].start()
    ready.wait()
    engine = made[0]
    service = Service(
        worker, engine.name, engine.context, int(time.time()), media or MediaRules()
    )
    server = Server(("127.0.0.1", 0))
    server.site = Site(service, ROUTES, guard or Guard(), log)
    threads.append(threading.Thread(target=server.serve_forever, args=(0.02,)))
    threads[1].start()
    try:
        yield Served(server, worker, engine)
    finally:
        server.shutdown()
        server.server_close()
        worker.stop(at_once=True)
        for thread in threads:
            thread.join()


def demo() -> Engine:
    """The demo model, whose answers are greedy."""
    from mlx_gemma4 import load

    return Engine(*load("demo"), "demo", {"temperature": 0})
