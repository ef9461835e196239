"""Who comes in at the first process, and who does not."""

import socket
import threading
from collections.abc import Sequence
from contextlib import closing

import pytest

from mlx_gemma4.errors import ShardError
from mlx_gemma4.processes.door import CROWD, KEY, Door, family_of

HOST = "127.0.0.1"


def knock(door: Door, said: bytes, host: str = HOST) -> socket.socket:
    connection = socket.create_connection((host, door.port), 10)
    connection.sendall(said)
    return connection


def test_others_come_in_their_order() -> None:
    door = Door(HOST, 2)
    with closing(knock(door, door.key + b"\2")), closing(knock(door, door.key)) as one:
        timer = threading.Timer(0.05, one.sendall, [b"\1"])  # in two pieces
        timer.start()
        found = door.wait()
        names = [each.getpeername()[1] for each in found]
        assert names[0] == one.getsockname()[1]
        timer.join()
    for each in found:
        each.close()


@pytest.mark.parametrize(
    "strangers",
    [[b""], [b"GET / HTTP/1.1\r\n\r\n"], [b"\0" * (KEY + 1)], [b""] * (CROWD + 3)],
    ids=["silent", "browser", "another key", "crowd"],
)
def test_strangers_keep_nobody_waiting(strangers: Sequence[bytes]) -> None:
    door = Door(HOST, 1, patience=30)
    others = [knock(door, said) for said in strangers]
    gone = knock(door, b"x")
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    gone.close()  # with a reset
    with closing(knock(door, door.key + b"\1")) as ours:
        (found,) = door.wait()
        with found:
            assert found.getpeername()[1] == ours.getsockname()[1]
    for other in others:
        other.settimeout(10)
        try:
            assert not other.recv(1)  # shown the door
        except ConnectionResetError:
            pass
        other.close()


def test_who_does_not_come_is_named() -> None:
    door = Door(HOST, 2, patience=0.2)
    with (
        closing(knock(door, door.key + b"\1")),
        pytest.raises(ShardError, match=r"Rank 2 did not come to 127\.0\.0\.1, port"),
    ):
        door.wait()


def test_addresses_of_ipv6() -> None:
    assert family_of("::1") is socket.AF_INET6
    assert family_of(HOST) is socket.AF_INET
