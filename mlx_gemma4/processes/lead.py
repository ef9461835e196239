"""The first of several processes, which decides: what its model does, the others do.

A call of the model is told before it is computed, and what it leads to is started in
one step on all sides, so that sums meet their counterparts in the same order. Between
the two nothing can come, Ctrl-C included.
"""

import signal
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import mlx.core as mx

from ..cache import LayerCache, Snapshot, kv_bits_of, reserved
from ..config import TextConfig
from ..device import Room
from ..errors import CacheError
from ..model import Gemma4
from .channel import GRACE, Message, Outgoing, end_at_once, shared
from .hearing import Ear, beat
from .names import Op
from .starting import start

if TYPE_CHECKING:
    from ..decoding.step import Found, Together

STOPPED = "(stopped)"
PRESSES, WITHIN = 3, 3.0  # so often Ctrl-C, in so many seconds, ends all at once


class Lead:
    """Tells the others what to do; also of the caches, by numbers.

    parting: what is still to be done where all have to end at once.
    """

    def __init__(self, group: mx.distributed.Group, others: Sequence[socket.socket]):
        self.group = group
        self.names = [_name(rank, each) for rank, each in enumerate(others, 1)]
        self.part: TextConfig | None = None
        self.room: Room | None = None
        self.parting: Callable[[], None] | None = None
        self._numbers: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._gone: deque[int] = deque()  # of which the others do not know yet
        self._next = 0
        self._ending = False
        self._aborting = threading.Lock()
        self._presses: deque[float] = deque(maxlen=PRESSES)
        self._stopped = 0  # the exit code, where one came
        self._answers = [threading.Event() for _ in others]
        self._said: list[Message] = [{}] * len(others)
        self._out, self._ear = Outgoing(others), Ear(others, self._heard, self._lost)
        beat(self._out)

    def _heard(self, number: int, message: Message) -> None:
        if "failed" in message:
            told = f"gemma4: {self.names[number]}: {message['failed']}"
            self._abort(told, message["code"])
        self._said[number] = message
        self._answers[number].set()

    def _lost(self, number: int, how: str) -> None:
        if not self._ending:
            told = f"{self.names[number]} {how}: all end."
            self._abort(f"gemma4: {told} See to that Mac and start again.")

    def _abort(self, text: str, code: int = 1) -> NoReturn:
        if not self._aborting.acquire(blocking=False):
            time.sleep(2 * GRACE)  # another thread does it
        if self._presses and self._presses[-1] > time.monotonic() - GRACE:
            text, code = STOPPED, self._stopped  # others end by it, as well
        self._out.send_last({"op": Op.ABORT})
        if self.parting is not None:
            self.parting()
        end_at_once(text, code)

    def pressed(self, number: int) -> None:
        """A signal came, and what was to handle it may wait for a process that hangs:
        then all end."""
        if number not in (signal.SIGINT, signal.SIGTERM):
            return
        now, self._stopped = time.monotonic(), 128 + number
        self._presses.append(now)
        if len(self._presses) == PRESSES and self._presses[0] > now - WITHIN:
            self._abort(STOPPED, self._stopped)
        late = threading.Timer(GRACE, self._end_if_silent, (now,))
        late.daemon = True
        late.start()

    def _end_if_silent(self, since: float) -> None:
        if self._ear.silent(since) and not self._ending:
            self._abort(STOPPED, self._stopped)

    def ask(self, message: Message) -> list[Message]:
        """What each of the others answers."""
        for event in self._answers:
            event.clear()
        self.tell(message)
        for event in self._answers:
            while not event.wait(0.2):  # Python hears Ctrl-C between
                pass
        return self._said

    def tell(self, message: Message) -> None:
        with uninterrupted():
            self._send(message)

    def _send(self, message: Message) -> None:
        gone = [self._gone.popleft() for _ in range(len(self._gone))]
        try:
            self._out.send({**message, "gone": gone})
        except OSError:
            time.sleep(GRACE)  # the ear hears who is gone, and ends all
            raise

    def end(self) -> None:
        """All are done."""
        self._ending = True
        with suppress(OSError), uninterrupted():  # gone before us
            self._out.send({"op": Op.END, "gone": []})

    def hidden(
        self,
        model: Gemma4,
        inputs: mx.array,
        cache: Sequence[LayerCache] | None,
        embeddings: mx.array | None,
        last_only: bool,
        caches_only: bool,
    ) -> mx.array:
        """`model.hidden` on all sides."""
        inputs, message = self._shared_ids(model, inputs)
        message |= {"op": Op.HIDDEN, "cache": self._of_cache(cache)}
        message |= {"last_only": last_only, "caches_only": caches_only}
        if embeddings is not None:
            message |= _described("embeddings", embeddings)
            embeddings = shared(embeddings, self.group)
        with uninterrupted():  # from here on the caches are longer, on all sides
            hidden = model.own_hidden(inputs, cache, embeddings, last_only)
            self._send(message)
            with self._all_or_none():
                start(hidden, cache or (), caches_only)
        return hidden

    def together(
        self,
        model: Gemma4,
        step: "Together",
        tokens: mx.array,
        caches: Sequence[Sequence[LayerCache]],
    ) -> "Found":
        """`step`, made for one token of each of several answers, on all sides."""
        tokens, message = self._shared_ids(model, tokens)
        message |= {"op": Op.TOGETHER}
        message["caches"] = [self._of_cache(cache) for cache in caches]
        with uninterrupted():
            found = step(tokens, caches)
            self._send(message)
            with self._all_or_none():
                mx.async_eval(found[1])
        return found

    @contextmanager
    def _all_or_none(self) -> Iterator[None]:
        """Who cannot start what the others have begun leaves sums that never end."""
        try:
            yield
        except Exception as error:
            self._abort(f"{type(error).__name__}: {error}: all end.")

    def _shared_ids(self, model: Gemma4, ids: mx.array) -> tuple[mx.array, Message]:
        """`ids` for all: as a sum, which nobody waits for; or, where a table on disk
        has to know them at once, as a message."""
        told = _described("tokens", ids)
        if model.language_model.table is None:
            return shared(ids, self.group), told
        return ids, {**told, "ids": ids.tolist()}

    # What happens to caches, as mlx_gemma4.cache tells it.

    def pinned(self, cache: Sequence[LayerCache], pinned: Snapshot) -> None:
        if pinned and pinned[0] not in self._numbers:
            of = self._of_cache(cache)
            self.tell({"op": Op.PIN, "cache": of, "made": self._number(pinned[0])})

    def restored(self, cache: Sequence[LayerCache], pinned: Snapshot) -> None:
        if pinned:
            of, pin = self._of_cache(cache), self._numbers[pinned[0]]
            self.tell({"op": Op.RESTORE, "cache": of, "pin": pin})

    def copied(
        self,
        cache: Sequence[LayerCache],
        pinned: Snapshot | None,
        made: Sequence[LayerCache],
    ) -> None:
        if made:
            pin = self._numbers[pinned[0]] if pinned else None
            message = {"op": Op.COPY, "cache": self._of_cache(cache), "pin": pin}
            self.tell({**message, "made": self._number(made[0])})

    def _of_cache(self, cache: Sequence[LayerCache] | None) -> list[int | None] | None:
        """Number, length, bits and what is reserved. One that is new is an empty one to
        the others."""
        if cache is None:
            return None
        first = cache[0]
        if first not in self._numbers:
            if first.offset:
                raise CacheError(
                    "This cache was not made by a model that several processes hold."
                )
            self._number(first)
        numbers = self._numbers[first], first.offset, kv_bits_of(cache)
        return [*numbers, reserved(cache)]

    def _number(self, thing: object) -> int:
        self._next += 1
        self._numbers[thing] = self._next
        weakref.finalize(thing, self._gone.append, self._next)
        return self._next


def _name(rank: int, connection: socket.socket) -> str:
    """With the address by which it came."""
    with suppress(OSError):  # gone already
        if address := connection.getpeername():
            return f"Rank {rank} ({address[0]})"
    return f"Rank {rank}"


def _described(name: str, x: mx.array) -> Message:
    return {name: [*x.shape], f"{name}_type": str(x.dtype).rpartition(".")[2]}


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the end of this."""
    if threading.current_thread() is not threading.main_thread():
        yield  # it is only heard there
        return
    heard: list[FrameType | None] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if heard and callable(before):
            before(signal.SIGINT, heard[0])
