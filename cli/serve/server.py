"""HTTP: a thread for each connection, and who of them is let in."""

import socket
import sys
import threading
from collections.abc import Sequence
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from .errors import Refused, refused
from .exchange import Gone
from .guard import Guard
from .handler import Handler
from .routes import Route, Service

CONNECTIONS = 128  # at once; further ones are turned away


class Server(ThreadingHTTPServer):
    """Answers requests at `address`, a host and a port, of which 0 is any free one.

    log: whether each reply gets a line on stderr. Raises OSError for an address that
    cannot be had.
    """

    daemon_threads = True
    request_queue_size = CONNECTIONS
    allow_reuse_address = True

    def __init__(
        self,
        address: tuple[str, int],
        guard: Guard,
        service: Service,
        routes: Sequence[Route],
        log: bool = True,
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.guard, self.service, self.log = guard, service, log
        self._routes = routes
        self._places = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(address, Handler)

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return (
            f"http://[{host}]:{port}" if ":" in str(host) else f"http://{host}:{port}"
        )

    def route(self, method: str, path: str) -> Route:
        """What answers a request. Raises Refused where nothing does."""
        at = [r for r in self._routes if r.path == path]
        at = at or [
            r for r in self._routes if r.path[-1] == "/" and path.startswith(r.path)
        ]
        for route in at:
            if route.method == method:
                return route
        if at:
            methods = ", ".join(route.method for route in at)
            raise Refused(405, f"{path} takes {methods}, not {method}.")
        served = ", ".join(dict.fromkeys(f"/v1{r.path}" for r in self._routes))
        raise Refused(404, f"Nothing is served at {path[:200]!r}; there are {served}.")

    def server_bind(self) -> None:
        """Without the name that the standard library looks up, which takes time."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = map(
            self.server_address.__getitem__, (0, 1)
        )

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """What went wrong beyond any reply: a client that was gone, mostly."""
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, OSError | Gone):
            refused(error)
