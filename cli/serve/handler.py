"""One connection: the request that comes in on it, its reply, and a line about it."""

import io
import socket
import sys
import time
from dataclasses import replace
from email.errors import (
    FirstHeaderLineIsContinuationDefect,
    MissingHeaderBodySeparatorDefect,
)
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, cast

from ..terminal.text import printable
from .errors import Refused, refused
from .exchange import Exchange, Gone
from .routes import Route, Site, openai_error

PATIENCE = 30.0  # seconds for a client to send its head, or to send or take anything
WHOLE = 300.0  # seconds for all of a request to come in
LINGER = 2.0  # seconds in which what nobody reads is taken, so that the reply arrives
PIECE = 1 << 16
# A line of a head that is none, with which what follows it is lost. Other defects are
# those of a body, which the head's parser misses.
LOST = (FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect)
TLS = "\x16\x03"  # what a client that speaks it begins with
OPEN = ("/", "/health")  # what needs no key


class Incoming(io.RawIOBase):
    """What a client sends, as long as it does so in time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.until = time.monotonic() + PATIENCE  # for the head, of whoever it is

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(min(left, PATIENCE))
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(PATIENCE)


class Handler(BaseHTTPRequestHandler):
    """Takes one request of a connection and closes it: clients that keep connections
    open for later ones have been seen to wait on them for ever."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        self.connection: socket.socket = self.request
        self.connection.settimeout(PATIENCE)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming = Incoming(self.connection)
        self.rfile = io.BufferedReader(self.incoming, PIECE)
        self.wfile = io.BytesIO()  # the base class's: nothing is written to it
        self.site: Site = cast(Any, self.server).site
        self.started = time.monotonic()

    def handle(self) -> None:
        self.close_connection = True
        try:
            self.handle_one_request()
        except (OSError, Gone):
            self._note("-", 0, "gone")

    def finish(self) -> None:
        """A client that is still sending would not see the reply if the connection were
        closed under it."""
        until = time.monotonic() + LINGER
        try:
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(0.2)
            while self.connection.recv(PIECE) and time.monotonic() < until:
                pass
        except OSError:
            pass

    def answer(self) -> None:
        exchange = Exchange(
            self.command,
            self.path,
            self.headers,
            self.connection,
            self.rfile,
            chunked=self.request_version != "HTTP/1.0",
        )
        route: Route | None = None
        said = ""
        try:
            if any(isinstance(each, LOST) for each in self.headers.defects):
                raise Refused(400, "The request's head is damaged.")
            guard = self.site.guard
            exchange.extra |= guard.cors(self.headers)
            asks = self.command == "OPTIONS"  # what it may; it never has the key
            guard.check(self.headers, asks or exchange.path in OPEN)
            self.incoming.until = self.started + WHOLE
            if asks:
                exchange.reply(204, b"", "text/plain")
            else:
                method = "GET" if self.command == "HEAD" else self.command
                route = self.site.route(method, exchange.path)
                service = self.site.service
                rules = service.media.anew()
                route.answer(exchange, replace(service, media=rules))
                exchange.end()
        except (Gone, OSError):
            said = "gone"
        except Exception as error:
            at = self.site.at(exchange.path)  # in whose words it is refused
            route = route or (at[0] if at else None)
            said = self._fail(exchange, route, refused(error))
        self._note(f"{self.command} {self.path}", exchange.status, said, exchange.noted)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def handle_expect_100(self) -> bool:
        """The exchange says "100 Continue", once it wants the body."""
        return True

    def send_error(
        self, code: int, message: str | None = None, explain: str | None = None
    ) -> None:
        """What the base class finds wrong with a request's head."""
        status = HTTPStatus(code)
        exchange = Exchange("GET", "/", Message(), self.connection, self.rfile)
        text = f"{message or status.phrase}."
        if self.requestline.startswith(TLS):
            text = "This server speaks http, not https."
        said = Refused(status, text)
        self._note(
            repr(self.requestline)[:100], status, self._fail(exchange, None, said)
        )

    def log_message(self, format: str, *args: Any) -> None:
        """The base class's lines: `_note` writes its own."""

    def _fail(self, exchange: Exchange, route: Route | None, error: Refused) -> str:
        """Tells the client, as far as it is there; returns what the log says."""
        value = route.error(error) if route else openai_error(error)
        try:
            if exchange.begun:
                exchange.event(value, route.event if route else None)
                exchange.end()
            else:
                if error.retry_after is not None:
                    exchange.extra["Retry-After"] = str(error.retry_after)
                exchange.reply_json(error.status, value)
        except (Gone, OSError):
            return "gone"
        return error.message

    def _note(self, request: str, status: int, said: str, noted: str = "") -> None:
        if not self.site.log:
            return
        seconds = f"{time.monotonic() - self.started:.1f} s"
        parts = [f"{request[:200]} {status or '-'}", noted, seconds, said[:300]]
        line = f"{time.strftime('%H:%M:%S')} {' · '.join(filter(None, parts))}"
        print(printable(line.replace("\n", " ")), file=sys.stderr, flush=True)
