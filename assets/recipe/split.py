"""The hold-out: which combinations a training run never sees.

A stable hash of the combination decides, so the split is fixed before the first
step and does not depend on a seed, on the order of the lists or on the machine.
"""

import hashlib
from collections.abc import Sequence
from random import Random
from typing import TypeVar

HELD_OUT_PERCENT = 12
ALWAYS_TRAINED = {"fact/capital/What is the capital of {x}?/France"}

T = TypeVar("T")


def held_out(key: str, percent: int = HELD_OUT_PERCENT) -> bool:
    """Whether the combination named `key` belongs to the held-out part."""
    if key in ALWAYS_TRAINED:
        return False
    digest = hashlib.md5(key.encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < percent


def draw(rng: Random, choices: Sequence[Sequence[T]], key: str, held: bool) -> list[T]:
    """One member of each sequence, redrawn until the combination is `held` or not."""
    while True:
        picks = [rng.choice(options) for options in choices]
        if held_out("/".join([key, *map(str, picks)])) == held:
            return picks


def plain(text: str) -> str:
    """`text` without what `typed` may change, for a key of the hold-out."""
    return text.lower().rstrip("?.!")


def typed(rng: Random, text: str) -> str:
    """`text` as people type it: sometimes in lower case or without the last mark."""
    if rng.random() < 0.12:
        text = text.lower()
    if rng.random() < 0.12:
        text = text.rstrip("?.!")
    return text
