"""What processes say to each other beside their sums: small messages from the first one
to the others, and the news that one of them is gone.

It is a connection of its own: a message arrives while sums are still under way, so that
all build their graphs ahead. Nothing is encrypted.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from select import select
from typing import Any, NoReturn, cast

import mlx.core as mx

from ..errors import ShardError
from .names import Op

Message = dict[str, Any]
GRACE = 3.0  # seconds
MOST = 2**24  # bytes of a message


def open_group() -> mx.distributed.Group:
    """All processes that were started together. Raises ShardError."""
    try:
        return mx.distributed.init(strict=True)
    except RuntimeError as error:
        raise ShardError(
            f"The other processes cannot be reached ({error}): look at the addresses "
            "in the hostfile, and whether another run still holds its ports."
        ) from None


def shared(x: mx.array, group: mx.distributed.Group) -> mx.array:
    """`x` of the first process, for all; others give one of the same shape and type."""
    mine = x if group.rank() == 0 else mx.zeros_like(x)
    return mx.distributed.all_sum(mine, group=group)


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


def watch(
    connections: Sequence[socket.socket],
    heard: Callable[[int, Message | None], None],
) -> None:
    """Tells `heard` of all that comes, by the number of the connection, and None where
    one has ended: in a thread, since sums that wait for the lost one never return."""

    def listen() -> None:
        open_ones = dict(enumerate(connections))
        while open_ones:
            ready, _, _ = select(list(open_ones.values()), [], [])
            for number in [n for n, each in open_ones.items() if each in ready]:
                message = receive(open_ones[number])
                if message is None:
                    del open_ones[number]
                heard(number, message)

    threading.Thread(target=listen, daemon=True, name="other processes").start()


def inbox(connection: socket.socket, lost: str | None) -> "SimpleQueue[Message]":
    """What comes over a connection; where it ends, so does this process, and says
    `lost` if that is not None."""
    messages: SimpleQueue[Message] = SimpleQueue()
    ended = threading.Event()

    def heard(number: int, message: Message | None) -> None:
        if message is not None and message["op"] == Op.ABORT:
            end_at_once(None)
        elif message is not None:
            messages.put(message)
            if message["op"] == Op.END:
                ended.set()
        elif not ended.is_set():
            end_at_once(lost)
        else:  # this process has a moment to end by itself
            time.sleep(GRACE)
            os._exit(0)

    watch([connection], heard)
    return messages


def end_at_once(text: str | None) -> NoReturn:
    """Ends the process, whatever its other threads wait for."""
    if text is not None:
        os.write(2, f"gemma4: {text}\n".encode())
    os._exit(1)
