"""Layers of which several processes hold a part each: sums over all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True)
class Share:
    """What of a layer's results is a term of a sum over `group`.

    parts: of the feed-forward network, and of the experts.
    """

    group: mx.distributed.Group
    attention: bool
    parts: Sequence[bool]

    def attended(self, x: mx.array) -> mx.array:
        return self._sum(x) if self.attention else x

    def joined(self, parts: Sequence[mx.array]) -> list[mx.array]:
        """The sums, all in one message: their order is then the same everywhere."""
        terms = [x for x, summed in zip(parts, self.parts, strict=False) if summed]
        if not terms:
            return list(parts)
        total = self._sum(terms[0] if len(terms) == 1 else mx.stack(terms))
        sums = iter([total] if len(terms) == 1 else total)
        return [
            next(sums) if summed else x
            for x, summed in zip(parts, self.parts, strict=False)
        ]

    def _sum(self, x: mx.array) -> mx.array:
        return mx.distributed.all_sum(x, group=self.group)
