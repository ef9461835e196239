"""Whether other processes live."""

import socket
import threading
import time
from queue import SimpleQueue

import pytest

from mlx_gemma4.processes import hearing
from mlx_gemma4.processes.channel import Message, Outgoing, send
from mlx_gemma4.processes.hearing import Ear, beat
from mlx_gemma4.processes.names import Op

News = SimpleQueue[tuple[int, Message | str]]


def ear(connections: list[socket.socket], patience: float) -> tuple[Ear, News]:
    news = News()
    made = Ear(
        connections,
        lambda number, message: news.put((number, message)),
        lambda number, how: news.put((number, how)),
        patience,
    )
    return made, news


@pytest.mark.slow
def test_who_hangs_is_missed_and_who_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearing, "BEAT", 0.05)
    pairs = [socket.socketpair() for _ in range(3)]
    _, news = ear([ours for ours, _ in pairs], 0.5)
    hangs, lives, ends = (theirs for _, theirs in pairs)
    beat(Outgoing([lives]))
    send(hangs, {"op": Op.READY})
    assert news.get(timeout=10) == (0, {"op": Op.READY})
    ends.close()
    assert news.get(timeout=10) == (2, "is gone")
    assert news.get(timeout=10) == (0, "has not been heard for 0.5 s")
    time.sleep(0.7)  # longer than it bears
    assert news.empty()
    lives.close()
    assert news.get(timeout=10) == (1, "is gone")
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_a_message_that_never_ends_is_silence() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        _, news = ear([ours], 0.2)
        theirs.sendall(b"\0\0\0\7half")
        assert news.get(timeout=10) == (0, "is gone")


def test_who_was_silent_since() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        made, news = ear([ours], 30)
        moment = time.monotonic()
        assert made.silent(moment) == [0]
        send(theirs, {"op": Op.READY})
        assert news.get(timeout=10)[0] == 0
        assert made.silent(moment) == []


def test_messages_of_two_threads_do_not_mix() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        _, news = ear([theirs], 30)
        out, long = Outgoing([ours]), {"op": Op.READY, "text": "x" * 10**6}
        threads = [threading.Thread(target=out.send, args=[long]) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert all(news.get(timeout=30) == (0, long) for _ in threads)
        for thread in threads:
            thread.join()
