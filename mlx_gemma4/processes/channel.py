"""What processes say to each other beside their sums: small messages from the first one
to the others, and the news that one of them is gone.

It is a connection of its own: a message arrives while sums are still under way, so that
all build their graphs ahead. Nothing is encrypted.
"""

import hmac
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from select import select
from typing import Any, NoReturn, cast

import mlx.core as mx

from ..errors import ShardError
from .launched import first_address
from .names import Op

Message = dict[str, Any]
PATIENCE = 60.0  # seconds until all have come
GRACE = 3.0  # seconds
KEY = 16  # bytes that who connects has to know
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


def meet(group: mx.distributed.Group) -> "list[socket.socket]":
    """Connections of the first process to all others in their order, or of another to
    the first. Raises ShardError."""
    address = first_address()
    try:
        if group.rank() == 0:
            return _wait_for_all(address, group)
        said = shared(mx.zeros((KEY + 2,), mx.int32), group).tolist()
        port, key = cast(list[int], said)[0], bytes(cast(list[int], said)[1:-1])
        connection = socket.create_connection((address, port), PATIENCE)
        connection.sendall(key + bytes([group.rank()]))
        return [_ready(connection)]
    except OSError as error:
        raise ShardError(
            f"The first process cannot be reached at {address} ({error}): look at the "
            "hostfile and at the firewall."
        ) from None


def _wait_for_all(address: str, group: mx.distributed.Group) -> "list[socket.socket]":
    found: dict[int, socket.socket] = {}
    key = secrets.token_bytes(KEY)
    with socket.create_server((address, 0)) as server:
        server.settimeout(PATIENCE)
        mx.eval(shared(mx.array([server.getsockname()[1], *key, 0], mx.int32), group))
        while len(found) < group.size() - 1:
            connection, _ = server.accept()
            connection.settimeout(PATIENCE)
            said = _exactly(connection, KEY + 1) or b""
            if hmac.compare_digest(said[:KEY], key):  # any other is no one of ours
                found[said[KEY]] = _ready(connection)
    return [found[rank] for rank in sorted(found)]


def _ready(connection: socket.socket) -> socket.socket:
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return connection


def send(connection: socket.socket, message: Message) -> None:
    data = json.dumps(message).encode()
    connection.sendall(len(data).to_bytes(4, "big") + data)


def receive(connection: socket.socket) -> Message | None:
    """The next message; None where the other is gone."""
    try:
        size = int.from_bytes(_exactly(connection, 4) or b"", "big")
        data = _exactly(connection, size) if 0 < size <= MOST else None
    except OSError:
        return None
    return cast(Message, json.loads(data)) if data else None


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
