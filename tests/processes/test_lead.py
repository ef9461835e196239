"""What the first process tells the others, heard at the other end."""

import signal
import socket
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import mlx.core as mx
import pytest
import tiny

from mlx_gemma4.cache import WATCHERS, rollback, snapshot
from mlx_gemma4.errors import CacheError, ShardError
from mlx_gemma4.model import Gemma4
from mlx_gemma4.processes import lead as leading
from mlx_gemma4.processes.channel import Message, receive, send
from mlx_gemma4.processes.follow import Follower
from mlx_gemma4.processes.lead import Lead
from mlx_gemma4.processes.names import Op
from mlx_gemma4.processes.stopping import heard_at_once

Told = tuple[Lead, socket.socket]


@pytest.fixture
def told() -> Iterator[Told]:
    """A leader, and where one other process would hear it."""
    ours, theirs = socket.socketpair()
    lead = Lead(mx.distributed.init(), [ours])
    WATCHERS.append(lead)
    with ours, theirs:
        yield lead, theirs
        WATCHERS.remove(lead)
        lead.end()
        theirs.shutdown(socket.SHUT_RDWR)


def heard(other: socket.socket) -> Message:
    while message := receive(other):
        if message["op"] != Op.BEAT:
            return message
    raise AssertionError("The leader is gone.")


def test_caches_that_are_gone_are_told(told: Told) -> None:
    """Or the others would keep them all."""
    lead, other = told
    model = tiny.build("E2B")
    for number in (1, 2):
        lead.hidden(model, mx.array([[3, 4]]), model.make_cache(), None, True, False)
        assert heard(other)["gone"] == [number - 1] * (number > 1)
    cache = model.make_cache()
    model(mx.array([[3]]), cache)
    rollback(cache, 1)  # of no use but that it is empty again
    pinned = snapshot(cache)
    assert heard(other)["made"] == 4
    del pinned, cache
    lead.tell({"op": Op.READY})
    assert sorted(heard(other)["gone"]) == [3, 4]


def test_a_cache_of_another_model_is_refused(told: Told) -> None:
    model = tiny.build("E2B")
    cache = model.make_cache()
    model(mx.array([[3]]), cache)
    with pytest.raises(CacheError, match="was not made by a model that several"):
        told[0].hidden(model, mx.array([[3]]), cache, None, True, False)


def test_what_cannot_be_started_ends_all(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait for its sums."""
    said: list[str] = []

    class Ended(BaseException):
        pass

    def end(text: str, code: int) -> None:
        said.append(text)
        raise Ended

    def fail(*_: object) -> None:
        raise RuntimeError("[metal::malloc] no memory")

    monkeypatch.setattr(leading, "end_at_once", end)
    monkeypatch.setattr(leading, "start", fail)
    model = tiny.build("E2B")
    with pytest.raises(Ended):
        told[0].hidden(model, mx.array([[3]]), None, None, True, False)
    assert [heard(told[1])["op"] for _ in range(2)] == [Op.HIDDEN, Op.ABORT]
    assert said == ["RuntimeError: [metal::malloc] no memory: all end."]


def aborted(told: Told, monkeypatch: pytest.MonkeyPatch) -> "SimpleQueue[Any]":
    """What the leader ends all with, once."""
    said: SimpleQueue[Any] = SimpleQueue()
    monkeypatch.setattr(leading, "end_at_once", lambda *end: said.put(end))
    return said


def test_ctrl_c_is_heard_where_another_hangs(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whatever else, where it is pressed three times; the conversation is kept."""
    said, kept = aborted(told, monkeypatch), []
    lead = told[0]
    lead.parting = lambda: kept.append(1)
    monkeypatch.setattr(leading, "GRACE", 0.1)
    with heard_at_once(lead.pressed):
        before = signal.signal(signal.SIGINT, lambda *_: None)
        signal.raise_signal(signal.SIGINT)
        signal.signal(signal.SIGINT, before)
        assert said.get(timeout=10) == ("(stopped)", 130)
    assert kept == [1]


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_three_presses_end_all(
    number: int, code: int, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, lead = aborted(told, monkeypatch), told[0]
    for _ in range(3):
        lead.pressed(number)
    assert said.get_nowait() == ("(stopped)", code)


def test_what_fails_elsewhere_is_told(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = aborted(told, monkeypatch)
    send(told[1], {"failed": "no memory", "code": 4})
    assert said.get(timeout=10) == ("gemma4: Rank 1: no memory", 4)


def following(model: Gemma4, messages: list[Message]) -> Follower:
    follower, queue = Follower(model, mx.distributed.init()), SimpleQueue[Message]()
    for message in [*messages, {"op": Op.END}]:
        queue.put({"gone": [], **message})
    follower.run(queue)
    return follower


def test_a_follower_keeps_step() -> None:
    """It refuses to go on with less than the first process has."""
    read = {"op": Op.HIDDEN, "tokens": [1, 2], "tokens_type": "int32", "ids": [[3, 4]]}
    read |= {"last_only": True, "caches_only": False}
    model = tiny.build("E2B")
    following(model, [{**read, "cache": [1, at, None, 0]} for at in (0, 2, 3)])
    with pytest.raises(ShardError, match="shorter here"):
        following(model, [{**read, "cache": [1, 2, None, 0]}])


def test_a_message_that_is_none_is_an_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, {"op": Op.END})
        ours.sendall(b"\0\0\0\3{x}")
        assert receive(theirs) == {"op": Op.END}
        assert receive(theirs) is None
