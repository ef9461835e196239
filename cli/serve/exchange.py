"""One request and its reply, whatever is said in them."""

import json
import re
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from io import BufferedIOBase
from typing import Any, TypeVar
from urllib.parse import unquote

from .errors import Refused
from .worker import Job

T = TypeVar("T")
LARGEST = 100_000_000  # bytes of a body
LOOK = 0.25  # seconds between looks at whether the client is still there
HALF = re.compile(r"\\u[dD][89a-fA-F]")  # of a character, maybe of a whole one
QUIET = 5.0  # seconds without a word, after which a stream says that it goes on


class Gone(Exception):
    """The client has closed its connection."""


class Exchange:
    """A request that came in on a connection.

    path: without `/v1` in front and what stands behind `?`. begun: whether a reply is
    under way. noted: what the server's log says of the answer.
    """

    def __init__(
        self,
        method: str,
        target: str,
        headers: Message,
        connection: socket.socket,
        incoming: BufferedIOBase,
        chunked: bool = True,
    ) -> None:
        self.method, self.headers = method, headers
        self.path = path_of(target)
        self.begun = False
        self.status = 0
        self.noted = ""
        self.extra: dict[str, str] = {}  # headers of any reply
        self._connection, self._incoming = connection, incoming
        self._chunked, self._streams = chunked, False

    # What came

    def body(self, most: int = LARGEST) -> bytes:
        """All of the request's body. Raises Refused, and Gone for one that breaks
        off."""
        if self.headers.get("Expect", "").lower() == "100-continue":
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.headers.get("Content-Encoding", "identity") != "identity":
            raise Refused(415, "A compressed body is not taken: send it as it is.")
        coding = self.headers.get("Transfer-Encoding", "").strip().lower()
        if coding == "chunked":
            return self._chunks(most)
        if coding:
            raise Refused(501, f"Transfer-Encoding {coding!r} is not known.")
        return self._read(self._length(most))

    def json(self) -> dict:
        """The body, which has to be a JSON object. Raises Refused."""
        kind = self.headers.get_content_type()
        if "Content-Type" in self.headers and kind.startswith("multipart/"):
            raise Refused(415, f"{self.path} takes JSON, not {kind}.")
        try:
            value = _unicode(self.body().decode("utf-8"))
        except RecursionError:
            raise Refused(400, "The body is nested too deeply.") from None
        except ValueError as error:
            raise Refused(400, f"The body is no JSON: {error}.") from None
        if not isinstance(value, dict):
            raise Refused(400, "The body must be a JSON object.")
        return value

    def _length(self, most: int) -> int:
        stated = self.headers.get_all("Content-Length", [])
        if not stated:
            raise Refused(411, "The request has no Content-Length, and no body.")
        if len(set(stated)) > 1 or not (stated[0].isascii() and stated[0].isdigit()):
            raise Refused(400, "Content-Length is not a number.")
        if len(stated[0]) > 12 or int(stated[0]) > most:
            raise _too_large(most)
        return int(stated[0])

    def _read(self, count: int) -> bytes:
        data = self._incoming.read(count)
        if len(data) < count:
            raise Gone
        return data

    def _chunks(self, most: int) -> bytes:
        data = bytearray()
        while True:
            line = self._incoming.readline(1000)
            size = line.split(b";")[0].strip()
            if not line.endswith(b"\n"):
                raise Gone
            try:
                count = int(size, 16) if size.isalnum() else -1
            except ValueError:
                count = -1
            if count < 0:
                raise Refused(400, "The body's chunks are damaged.")
            if len(data) + count > most:
                raise _too_large(most)
            data += self._read(count)
            end = self._incoming.readline(1000)
            while not count and end.strip():  # trailers, which say nothing
                end = self._incoming.readline(1000)
            if end.strip():
                raise Refused(400, "The body's chunks are damaged.")
            if not count:
                return bytes(data)

    # What goes

    def reply_json(self, status: int, value: Mapping[str, object]) -> None:
        text = json.dumps(value, ensure_ascii=False)
        self.reply(status, text.encode("utf-8", "replace"), "application/json")

    def reply(self, status: int, data: bytes, kind: str) -> None:
        """A whole reply; kind is its Content-Type."""
        length = {"Content-Length": str(len(data))}
        head = self._head(status, {"Content-Type": kind, **length})
        self._send(head if self.method == "HEAD" else head + data)

    def stream(self) -> None:
        """Begins a reply of events, unless it has begun."""
        if self._streams:
            return
        self._streams = True
        kind = {"Content-Type": "text/event-stream; charset=utf-8"}
        kind |= {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        coding = {"Transfer-Encoding": "chunked"} if self._chunked else {}
        self._send(self._head(200, kind | coding))

    def event(self, data: Mapping[str, object] | str, name: str | None = None) -> None:
        """One event of a stream. Raises Gone."""
        self.stream()
        if not isinstance(data, str):
            data = json.dumps(data, ensure_ascii=False)
        self._piece(f"event: {name}\ndata: {data}\n\n" if name else f"data: {data}\n\n")

    def comment(self, text: str) -> None:
        """A line that clients pass over. Raises Gone."""
        self.stream()
        self._piece(f": {text}\n\n")

    def end(self) -> None:
        """Closes a stream. Nothing, where the reply was none."""
        if self._streams and self._chunked:
            self._send(b"0\r\n\r\n")

    def items(
        self,
        job: Job[T],
        streams: bool = False,
        beat: Callable[[], None] | None = None,
    ) -> Iterator[T]:
        """What comes of a job, while the client is there; without it the job ends.

        streams: the reply is one of events: a comment, or what `beat` sends, tells from
            time to time that it goes on. Raises Gone, and what the job raises.
        """
        said = time.monotonic()
        try:
            while True:
                item = job.take(LOOK)
                if self._gone():
                    raise Gone
                now = time.monotonic()
                if item is not None:
                    said = now
                    yield item
                elif job.ended:
                    return
                elif streams and now - said >= QUIET:
                    said = now
                    told = f"{job.read} of {job.of} tokens" if job.of else "wait"
                    if beat is None:
                        self.comment(told)
                    else:
                        beat()
        finally:
            job.cancel()

    def _gone(self) -> bool:
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        if not poll.poll(0):
            return False
        try:  # what stands behind the request says nothing, and would hide the end
            return self._connection.recv(1 << 16) == b""
        except OSError:
            return True

    def _head(self, status: int, headers: Mapping[str, str]) -> bytes:
        from http import HTTPStatus

        self.begun, self.status = True, status
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        every = {**headers, **self.extra, "Connection": "close"}
        lines += [f"{name}: {value}" for name, value in every.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _piece(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._send(data)

    def _send(self, data: bytes) -> None:
        try:
            self._connection.sendall(data)
        except OSError:
            raise Gone from None


def path_of(target: str) -> str:
    """Of `/v1/models?limit=3` "/models": clients differ in whether they put /v1."""
    path = unquote(target.partition("?")[0]).rstrip("/") or "/"
    while path.startswith("/v1/") or path == "/v1":
        path = path.removeprefix("/v1") or "/"
    return path


def _unicode(text: str) -> Any:
    """What JSON says. Halves of characters, as JavaScript leaves them where it cuts a
    text, become what stands for one that is lost. Raises ValueError."""
    value = json.loads(text, parse_constant=_no_number)
    if not HALF.search(text):
        return value
    plain = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass")
    return json.loads(plain.decode("utf-16", "replace"))


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _too_large(most: int) -> Refused:
    return Refused(413, f"The body is larger than {most / 1e6:g} MB.", code="too_large")
