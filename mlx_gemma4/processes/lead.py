"""The first of several processes, which decides: what its model does, the others do.

A call of the model is told before it is computed, and what it leads to is started in
one step on all sides, so that sums meet their counterparts in the same order. Between
the two nothing can come, Ctrl-C included.
"""

import signal
import socket
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import mlx.core as mx

from ..cache import LayerCache, Snapshot, kv_bits_of, reserved
from ..config import TextConfig
from ..errors import CacheError
from ..model import Gemma4
from .channel import GRACE, Message, end_at_once, send, shared, watch
from .names import Op
from .starting import start

if TYPE_CHECKING:
    from ..decoding.step import Found, Together

LOST = "The process of rank {rank} is gone: all end."


class Lead:
    """Tells the others what to do; also of the caches, by numbers."""

    def __init__(self, group: mx.distributed.Group, others: Sequence[socket.socket]):
        self.group, self._others = group, others
        self.part: TextConfig | None = None
        self._numbers: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._gone: deque[int] = deque()  # of which the others do not know yet
        self._sending = threading.Lock()
        self._next = 0
        self._ending = False
        self._answers = [threading.Event() for _ in others]
        self._said: list[Message | None] = [None] * len(others)
        watch(others, self._heard)

    def _heard(self, number: int, message: Message | None) -> None:
        rank = number + 1
        if message is None and not self._ending:
            self._abort(LOST.format(rank=rank))
        if message is not None and "failed" in message:
            self._abort(f"Rank {rank}: {message['failed']}")
        self._said[number] = message
        self._answers[number].set()

    def _abort(self, text: str) -> NoReturn:
        # A message under way is finished first; one that hangs is not waited for, and
        # the others then hear that the connection ends.
        if self._sending.acquire(timeout=GRACE):
            for other in self._others:
                with suppress(OSError):
                    send(other, {"op": Op.ABORT})
            self._sending.release()
        end_at_once(text)

    def ask(self, message: Message) -> list[Message]:
        """What each of the others answers."""
        for event in self._answers:
            event.clear()
        self.tell(message)
        for event in self._answers:
            while not event.wait(0.2):  # Python hears Ctrl-C between
                pass
        return [message or {} for message in self._said]

    def tell(self, message: Message) -> None:
        with uninterrupted():
            self._send(message)

    def _send(self, message: Message) -> None:
        gone = [self._gone.popleft() for _ in range(len(self._gone))]
        with self._sending:
            for other in self._others:
                send(other, {**message, "gone": gone})

    def end(self) -> None:
        """All are done."""
        self._ending = True
        with suppress(OSError):  # gone before us
            self.tell({"op": Op.END})

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
