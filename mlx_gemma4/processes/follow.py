"""The other processes: they do what the first one tells, each with its part."""

from queue import SimpleQueue

import mlx.core as mx

from ..cache import LayerCache, Snapshot, copied, reserve, restore, rollback, snapshot
from ..decoding.step import plain_together
from ..errors import ShardError
from ..model import Gemma4
from .channel import Message, shared
from .names import Op
from .starting import start


class Follower:
    """A part of a model, and the caches that the first process knows by number."""

    def __init__(self, model: Gemma4, group: mx.distributed.Group):
        self._model, self._group = model, group
        self._together = plain_together(model)
        self._caches: dict[int, list[LayerCache]] = {}
        self._pins: dict[int, Snapshot] = {}

    def run(self, messages: "SimpleQueue[Message]") -> Message:
        """Until something comes that is not for a model: that."""
        while True:
            message = messages.get()
            for number in message["gone"]:
                self._caches.pop(number, None)
                self._pins.pop(number, None)
            match message["op"]:
                case Op.HIDDEN:
                    self._hidden(message)
                case Op.TOGETHER:
                    caches = [self._cache(each) for each in message["caches"]]
                    tokens = self._ids(message)
                    mx.async_eval(self._together(tokens, caches)[1])
                case Op.PIN:
                    pinned = snapshot(self._cache(message["cache"]))
                    self._pins[message["made"]] = pinned
                case Op.RESTORE:
                    pinned = self._pins[message["pin"]]
                    restore(self._cache(message["cache"]), pinned)
                case Op.COPY:
                    pin = message["pin"] and self._pins[message["pin"]]
                    made = copied(self._cache(message["cache"]), pin)
                    self._caches[message["made"]] = made
                case _:
                    return message

    def _hidden(self, message: Message) -> None:
        cache = self._cache(message["cache"]) if message["cache"] else None
        tokens = self._ids(message)
        told = "embeddings" in message
        embeddings = self._shared(message, "embeddings") if told else None
        last_only = message["last_only"]
        hidden = self._model.own_hidden(tokens, cache, embeddings, last_only)
        start(hidden, cache or (), message["caches_only"])

    def _ids(self, message: Message) -> mx.array:
        if "ids" not in message:
            return self._shared(message, "tokens")
        return mx.array(message["ids"], getattr(mx, message["tokens_type"]))

    def _shared(self, message: Message, name: str) -> mx.array:
        dtype = getattr(mx, message[f"{name}_type"])
        return shared(mx.zeros(message[name], dtype), self._group)

    def _cache(self, told: tuple[int, int, int | None, int]) -> list[LayerCache]:
        """As long as the first process says: what it has taken back is taken back."""
        number, offset, kv_bits, slots = told
        if number not in self._caches:
            self._caches[number] = self._model.make_cache(kv_bits=kv_bits)
        cache = self._caches[number]
        if cache[0].offset < offset:
            raise ShardError("A cache is shorter here than in the first process.")
        if cache[0].offset > offset:
            rollback(cache, cache[0].offset - offset)
        reserve(cache, slots)
        return cache
