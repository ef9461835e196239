"""How the other processes find the first one: it listens at its address in the hostfile
until all have come.
"""

import hmac
import secrets
import socket
import sys
import time
from collections.abc import Container
from contextlib import suppress
from select import select
from typing import cast

import mlx.core as mx

from ..errors import ShardError
from ..launched import first_address
from .channel import shared

PATIENCE = 60.0  # seconds until all have come
KEY = 16  # bytes that who connects has to know
CROWD = 64  # connections that have not said yet who they are
LOST_AFTER = 18  # seconds


def meet(group: mx.distributed.Group) -> "list[socket.socket]":
    """Connections of the first process to all others in their order, or of another to
    the first. Raises ShardError."""
    address = first_address()
    try:
        if group.rank() == 0:
            return Door(address, group.size() - 1).others(group)
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


class Door:
    """Where the others come in: who knows the key. Anybody may knock, and keeps nobody
    else waiting."""

    def __init__(self, address: str, count: int, patience: float = PATIENCE) -> None:
        self._address, self._count, self._patience = address, count, patience
        self.key = secrets.token_bytes(KEY)
        self._server = socket.create_server((address, 0), family=family_of(address))
        self._server.setblocking(False)
        self.port: int = self._server.getsockname()[1]

    def others(self, group: mx.distributed.Group) -> list[socket.socket]:
        """Tells them where it is, and waits for them."""
        mx.eval(shared(mx.array([self.port, *self.key, 0], mx.int32), group))
        return self.wait()

    def wait(self) -> list[socket.socket]:
        """The connections of all, in their order. Raises ShardError."""
        found: dict[int, socket.socket] = {}
        knocking: dict[socket.socket, bytes] = {}
        until = time.monotonic() + self._patience
        try:
            while len(found) < self._count:
                if (left := until - time.monotonic()) <= 0:
                    for each in found.values():
                        each.close()
                    raise self._missing(found)
                ready, _, _ = select([self._server, *knocking], [], [], left)
                for each in ready:
                    if each is self._server:
                        _let_knock(self._server, knocking)
                    elif (rank := self._rank(each, knocking)) is not None:
                        found[rank] = _ready(each)
        finally:
            for stranger in (self._server, *knocking):
                stranger.close()
        return [found[rank] for rank in sorted(found)]

    def _missing(self, found: Container[int]) -> ShardError:
        ranks = [str(n) for n in range(1, self._count + 1) if n not in found]
        return ShardError(
            f"Rank {', '.join(ranks)} did not come to {self._address}, port "
            f"{self.port}, in {self._patience:g} s: look at the firewall here."
        )

    def _rank(
        self, connection: socket.socket, knocking: dict[socket.socket, bytes]
    ) -> int | None:
        """Of who has said all; None where that is still to come, or was wrong."""
        said = knocking.pop(connection, None)
        if said is None:  # it had to go a moment ago
            return None
        try:
            more = connection.recv(KEY + 1 - len(said))
        except OSError:
            more = b""
        said += more
        if more and len(said) <= KEY:
            knocking[connection] = said
            return None
        if more and hmac.compare_digest(said[:KEY], self.key):
            return said[KEY]
        connection.close()
        return None


def _let_knock(server: socket.socket, knocking: dict[socket.socket, bytes]) -> None:
    with suppress(OSError):  # gone already
        connection, _ = server.accept()
        if len(knocking) == CROWD:  # the one that has been silent for longest goes
            oldest = next(iter(knocking))
            knocking.pop(oldest)
            oldest.close()
        knocking[connection] = b""


def family_of(address: str) -> socket.AddressFamily:
    """IPv4's or IPv6's. Raises OSError for an address that is none."""
    return socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0][0]


def _ready(connection: socket.socket) -> socket.socket:
    """A machine that vanishes without a word is missed after LOST_AFTER seconds."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = "TCP_KEEPALIVE" if sys.platform == "darwin" else "TCP_KEEPIDLE"
    times = {idle: LOST_AFTER // 3, "TCP_KEEPINTVL": LOST_AFTER // 6, "TCP_KEEPCNT": 4}
    times["TCP_USER_TIMEOUT"] = 1000 * LOST_AFTER  # Linux, where something was sent
    for name, value in times.items():
        if (option := getattr(socket, name, None)) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
    return connection
