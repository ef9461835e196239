"""How tokens are drawn: the settings and what each can be."""

import math
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from ..errors import ChatError


class Bounds(NamedTuple):
    """What a setting can be: from `low` to `high`, both included, and in words."""

    low: float
    high: float
    told: str
    whole: bool = False


ABOVE_0, BELOW_1 = math.ulp(0.0), math.nextafter(1.0, 0.0)
BOUNDS = {
    "temperature": Bounds(0, math.inf, "0 or more"),
    "top_p": Bounds(ABOVE_0, 1, "above 0 and at most 1"),
    "top_k": Bounds(0, math.inf, "0 (off) or more", whole=True),
    "min_p": Bounds(0, BELOW_1, "0 (off) or more and below 1"),
    "repetition_penalty": Bounds(ABOVE_0, math.inf, "above 0"),
    "presence_penalty": Bounds(-2, 2, "from -2 to 2"),
    "frequency_penalty": Bounds(-2, 2, "from -2 to 2"),
    "seed": Bounds(0, 2**64 - 1, "0 or more and below 2**64", whole=True),
}


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. A temperature of 0 takes the likeliest.

    top_k: keep this many tokens; 0 keeps all. top_p: keep the likeliest tokens that
    together reach this share. min_p: drop tokens below this share of the likeliest.
    repetition_penalty: above 1 makes tokens of prompt and answer less likely.
    presence_penalty: taken from the logits of tokens that the answer has;
    frequency_penalty: each time that it has them.
    seed: None draws one, so that it can be reported.

    Raises ChatError for a value that no token can be drawn with.
    """

    temperature: float = 1.0
    top_p: float = 0.95
    top_k: int = 64
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, bounds in BOUNDS.items():
            _check(name, getattr(self, name), bounds)

    def but_with(self, **given: float | None) -> "Sampling":
        """The same, but for the fields `given` that are not None."""
        return replace(self, **{k: v for k, v in given.items() if v is not None})


SAMPLING = tuple(field.name for field in fields(Sampling))


def _check(name: str, value: object, bounds: Bounds) -> None:
    if value is None and name == "seed":
        return
    kinds = int if bounds.whole else int | float
    # To Python a bool is a number, and so is NaN.
    if isinstance(value, bool) or not isinstance(value, kinds) or value != value:
        kind = "whole number" if bounds.whole else "number"
        raise ChatError(f"{name} is {value!r}; it must be a {kind}.")
    if not bounds.low <= value <= bounds.high:
        raise ChatError(f"{name} is {value}; it must be {bounds.told}.")
