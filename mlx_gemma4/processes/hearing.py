"""What comes from other processes, and whether they live: each says so every second,
from a thread of its own, whatever its other threads wait for. One that hangs, sleeps or
is cut off does not.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from select import select

from .channel import GRACE, Message, Outgoing, end_at_once, receive
from .names import Op

BEAT = 1.0  # seconds
SILENCE = 30.0  # that the first process bears; the others leave it to that to say so
LONGER = 1.5 * SILENCE


def beat(out: Outgoing) -> None:
    """Says that this process lives, from now on."""

    def go() -> None:
        with suppress(OSError):  # who listens there is missed here, too
            while True:
                out.send({"op": Op.BEAT})
                time.sleep(BEAT)

    threading.Thread(target=go, daemon=True, name="beats").start()


class Ear:
    """Hears others in a thread, since sums that wait for a lost one never return.

    heard: told of all that comes, by the number of its connection. lost: of a
        connection that has ended, or was silent for `patience` seconds, and which of
        the two in words.
    """

    def __init__(
        self,
        connections: Sequence[socket.socket],
        heard: Callable[[int, Message], None],
        lost: Callable[[int, str], None],
        patience: float = SILENCE,
    ) -> None:
        self._open = dict(enumerate(connections))
        self._at = dict.fromkeys(self._open, time.monotonic())
        self._heard, self._lost, self._patience = heard, lost, patience
        for each in connections:
            each.settimeout(patience)  # in the middle of a message, too
        threading.Thread(target=self._listen, daemon=True, name="others").start()

    def silent(self, since: float) -> list[int]:
        """Who has said nothing since that moment of time.monotonic()."""
        return [number for number, at in self._at.items() if at < since]

    def _listen(self) -> None:
        while self._open:
            # Before, since this process may itself have been stopped in between.
            overdue = time.monotonic() - self._patience
            try:
                ready, _, _ = select(list(self._open.values()), [], [], BEAT)
            except (OSError, ValueError):  # closed on this side
                return
            for number, connection in [*self._open.items()]:
                if connection in ready:
                    self._take(number, receive(connection))
                elif self._at[number] < overdue:
                    how = f"has not been heard for {self._patience:g} s"
                    self._drop(number, how)

    def _take(self, number: int, message: Message | None) -> None:
        if message is None:
            self._drop(number, "is gone")
            return
        self._at[number] = time.monotonic()
        if message.get("op") != Op.BEAT:
            self._heard(number, message)

    def _drop(self, number: int, how: str) -> None:
        del self._open[number]
        self._lost(number, how)


def inbox(connection: socket.socket, speaks: bool) -> "SimpleQueue[Message]":
    """What the first process tells this one, which ends where that is lost, and says so
    if it `speaks`."""
    messages: SimpleQueue[Message] = SimpleQueue()
    ended = threading.Event()

    def heard(_: int, message: Message) -> None:
        if message["op"] == Op.ABORT:
            end_at_once(None)
        messages.put(message)
        if message["op"] == Op.END:
            ended.set()

    def lost(_: int, how: str) -> None:
        if not ended.is_set():
            said = f"gemma4: The first process {how}: all end."
            end_at_once(said if speaks else None)
        time.sleep(GRACE)  # this process has a moment to end by itself
        os._exit(0)

    Ear([connection], heard, lost, LONGER)
    return messages
