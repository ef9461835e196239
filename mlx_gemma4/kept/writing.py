"""Entries on their way to the disk: one at a time, in a thread of its own."""

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Waiting:
    """An entry that is to be written.

    write: writes it; is asked to give up by `Writing.given_up`, and raises nothing.
    size: bytes of memory that it holds as long as it waits. worth: tokens that need not
        be read again once it is written. of: its conversation, if of one.
    spare: may be left out where much waits.
    """

    write: Callable[[], None]
    size: int
    worth: int
    of: str | None = None
    spare: bool = False


class Writing:
    """What is written now, and what waits for that.

    A disk may be slower than caches give way in a server, and what waits keeps their
    memory from those that took their place. So what may be left out waits only as long
    as all take `most` bytes, or is alone; the one that saves the least reading gives
    way, and at the worst is read once more. Nobody waits for the disk with an answer.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._changed = threading.Condition()
        self._all: list[Waiting] = []  # the first is being written
        self.given_up = False

    @property
    def nbytes(self) -> int:
        """Bytes that are not written yet."""
        with self._changed:
            return _size(self._all)

    def add(self, new: Waiting) -> bool:
        """Has it written, in place of what waits of its conversation; whether it will
        be."""
        with self._changed:
            if new.of is not None:
                self._all[1:] = [each for each in self._all[1:] if each.of != new.of]
            if new.spare and not self._make_room(new):
                return False
            self._all.append(new)
            idle = len(self._all) == 1
        if idle:
            self._start()
        return True

    def _start(self) -> None:
        try:  # no daemon: Python's end waits for what is written
            threading.Thread(target=self._run, name="kept prompts").start()
        except RuntimeError:  # there are too many, or Python has come to its end
            self._run()

    def _make_room(self, new: Waiting) -> bool:
        while self._all and _size(self._all) + new.size > self._most:
            spare = [new, *(each for each in self._all[1:] if each.spare)]
            least = min(spare, key=lambda each: each.worth)
            if least is new:
                return False
            self._all.remove(least)
        return True

    def _run(self) -> None:
        while True:
            with self._changed:
                first = self._all[0]
            first.write()
            del first
            with self._changed:
                self._all.pop(0)
                self._changed.notify_all()
                if not self._all:
                    return

    def wait(self, seconds: float | None = None) -> bool:
        """Waits until all is written, or so long; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._all, seconds)

    def give_up(self) -> None:
        """Leaves what is not written."""
        with self._changed:
            self.given_up = True
            del self._all[1:]


def _size(entries: list[Waiting]) -> int:
    return sum(each.size for each in entries)
