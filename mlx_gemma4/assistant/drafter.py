"""A drafter as its model has it, and what it proposes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import mlx.core as mx

from ..cache import LayerCache, Seen
from ..config import FULL, SLIDING
from ..layers import weights_bytes
from ..text.decoder import TextModel
from .model import Assistant


class Model(Protocol):
    """What is needed of the model that is drafted for."""

    language_model: TextModel


@dataclass(frozen=True)
class Drafter:
    """The module and where it is from. Not a module itself, so that what it holds is
    none of its model's parameters."""

    module: Assistant
    folder: Path

    @property
    def nbytes(self) -> int:
        """What its weights take."""
        return weights_bytes(self.module)

    def propose(
        self,
        model: Model,
        token: int,
        hidden: mx.array,
        cache: Sequence[LayerCache],
        count: int,
    ) -> mx.array:
        """The `count` tokens that may follow, the likeliest one after the other: int
        [1, count], of one graph that is not evaluated.

        model: that which it was loaded for.
        token: the last of the answer, which `cache` does not hold yet.
        hidden: the model's state [1, 1, hidden], behind its last norm, from which that
            token was drawn.
        """
        text, module = model.language_model, self.module
        seen = self.seen(model, cache)
        position = mx.array([cache[0].offset], mx.int32)
        rotations = module.rotations(position, hidden.dtype)
        last, state = mx.array([[token]], mx.int32), hidden
        rows = text.config.token_rows
        drafts: list[mx.array] = []
        for _ in range(count):
            h = module.hidden(text.embed(last), state, seen, rotations)
            last, state = module.argmax(h), module.next_state(h)
            if rows < text.config.vocab_size:  # the model has no table for the others
                last = mx.minimum(last, rows - 1)
            drafts.append(last)
        return drafts[0] if count == 1 else mx.concatenate(drafts, axis=1)

    def seen(self, model: Model, cache: Sequence[LayerCache]) -> Mapping[str, Seen]:
        """Of each kind of layer, what the drafter reads of the model's last layer of
        that kind with keys and values of its own. In sliding layers these are the
        newest `window` + 1, one more than the model's own layers see, as in the
        reference; only what is valid, unlike there."""
        text = model.language_model.config
        own = text.layer_types[: text.first_kv_shared_layer]
        last = {kind: layer for layer, kind in enumerate(own)}
        most = {FULL: None, SLIDING: text.sliding_window + 1}
        kinds = dict.fromkeys(self.module.config.text_config.layer_types)
        return {kind: cache[last[kind]].newest(most[kind]) for kind in kinds}
