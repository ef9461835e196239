"""What processes say to each other beside their sums: small messages from the first one
to the others, answers to it, and that they live.

It is a connection of its own: a message arrives while sums are still under way, so that
all build their graphs ahead. Nothing is encrypted.
"""

import json
import os
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn, cast

import mlx.core as mx

from ..errors import ShardError
from ..launched import backend

Message = dict[str, Any]
GRACE = 3.0  # seconds
MOST = 2**24  # bytes of a message


def open_group() -> mx.distributed.Group:
    """All processes that were started together. Raises ShardError."""
    try:
        return mx.distributed.init(strict=True, backend=backend())
    except RuntimeError as error:
        raise ShardError(
            f"The other processes cannot be reached ({error}): look at the addresses "
            "in the hostfile, and whether another run still holds its ports."
        ) from None


def shared(x: mx.array, group: mx.distributed.Group) -> mx.array:
    """`x` of the first process, for all; others give one of the same shape and type."""
    mine = x if group.rank() == 0 else mx.zeros_like(x)
    return mx.distributed.all_sum(mine, group=group)


class Outgoing:
    """To all `connections`, in one order; messages of several threads do not mix."""

    def __init__(self, connections: Sequence[socket.socket]) -> None:
        self._connections = connections
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        with self._lock:
            for each in self._connections:
                send(each, message)

    def send_last(self, message: Message) -> None:
        """A message under way is finished first; one that hangs is not waited for, and
        the others then hear that the connection ends."""
        if self._lock.acquire(timeout=GRACE):
            for each in self._connections:
                with suppress(OSError):
                    send(each, message)
            self._lock.release()


def send(connection: socket.socket, message: Message) -> None:
    data = json.dumps(message).encode()
    connection.sendall(len(data).to_bytes(4, "big") + data)


def receive(connection: socket.socket) -> Message | None:
    """The next message; None where the other is gone."""
    try:
        size = int.from_bytes(_exactly(connection, 4) or b"", "big")
        data = _exactly(connection, size) if 0 < size <= MOST else None
        return cast(Message, json.loads(data)) if data else None
    except (OSError, ValueError):
        return None


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            return None
        data += more
    return data


def end_at_once(text: str | None, code: int = 1) -> NoReturn:
    """Ends the process, whatever its other threads wait for."""
    if text is not None:
        with suppress(OSError):  # nobody reads it
            os.write(2, f"{text}\n".encode())
    os._exit(code)
