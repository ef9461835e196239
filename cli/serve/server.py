"""HTTP: a thread for each connection, and who of them is let in."""

import socket
import sys
import threading
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from .errors import refused
from .exchange import Gone
from .handler import Handler
from .routes import Site

CONNECTIONS = 128  # at once; further ones are turned away
LAST = 5.0  # seconds for the last replies to be sent


class Server(ThreadingHTTPServer):
    """Answers requests at `address`, a host and a port, of which 0 is any free one.

    It listens at once, and answers from `serve_forever` on, as its `site` says. Raises
    OSError for an address that cannot be had.
    """

    daemon_threads = True
    request_queue_size = CONNECTIONS
    allow_reuse_address = True

    site: Site

    def __init__(self, address: tuple[str, int]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._open = 0
        self._changed = threading.Condition()
        super().__init__(address, Handler)

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return (
            f"http://[{host}]:{port}" if ":" in str(host) else f"http://{host}:{port}"
        )

    def server_bind(self) -> None:
        """Without the name that the standard library looks up, which takes time."""
        TCPServer.server_bind(self)
        host, port = self.socket.getsockname()[:2]
        self.server_name, self.server_port = host, port

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            room = self._open < CONNECTIONS
            self._open += room
        if room:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._changed:
                self._open -= 1
                self._changed.notify_all()

    def wait(self, seconds: float = LAST) -> None:
        """Until the replies under way have been sent."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open, seconds)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """What went wrong beyond any reply: a client that was gone, mostly."""
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, OSError | Gone):
            refused(error)
