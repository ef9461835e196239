"""An object in a checkpoint's JSON file, taken key by key, with every error by name."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ..errors import CheckpointError
from .neutral import is_empty, is_off, unknown_keys

MOST = 2**31  # above are only mistakes
SMALLEST = 1e-30  # to divide by: float32 takes less for 0


def shown(value: Any) -> str:
    """A value for an error message, cut to a readable length."""
    text = "null" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def is_number(value: Any) -> bool:
    """Whether it can be computed with: to Python a bool is a number, NaN is, and an
    integer too large for a float."""
    return type(value) in (int, float) and abs(value) < MOST


class Section:
    """The values of one object. A null takes the default, as an absent key does.

    Raises CheckpointError that names file, section, key and value for what is wrong.
    `taken` are the keys that were asked for; `unknown` lists those that state something
    and were not.
    """

    def __init__(self, path: Path, name: str, values: Any):
        self.path, self.name = path, name
        if is_off(values):
            values = {}
        if not isinstance(values, Mapping):
            told = f"{name} is {shown(values)}, not an object"
            raise CheckpointError(f"{path}: {told}.")
        self.values: Mapping[str, Any] = values
        self.taken: set[str] = set()

    def get(self, key: str) -> Any:
        self.taken.add(key)
        return self.values.get(key)

    def full(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def refuse(self, key: str, told: str) -> NoReturn:
        value = shown(self.values.get(key))
        raise CheckpointError(f"{self.path}: {self.full(key)} is {value}{told}.")

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key)
        if not isinstance(value, bool | None):
            self.refuse(key, ", not true or false")
        return default if value is None else value

    def must_be(self, key: str, *wanted: Any, otherwise: str) -> None:
        """One of `wanted`, or not stated."""
        value = self.get(key)
        if value is not None and not any(_same(value, each) for each in wanted):
            self.refuse(key, otherwise)

    def whole(self, key: str, default: int, least: int = 1, most: int = MOST) -> int:
        value = self.get(key)
        if value is None:
            return default
        if type(value) is not int or not least <= value <= most:
            self.refuse(key, f", not a whole number of {least} to {most}")
        return value

    def number(
        self,
        key: str,
        default: float,
        least: float = -MOST,
        above: float = -math.inf,
        most: float = MOST,
    ) -> float:
        value = self.get(key)
        if value is None:
            return default
        if not is_number(value):
            self.refuse(key, ", not a usable number")
        if value <= above:
            self.refuse(key, f"; it must be above {above:g}")
        if not least <= value <= most:
            self.refuse(key, f"; it must be {least:g} to {most:g}")
        return value

    def numbers(
        self, key: str, count: int, single: bool = False, divisors: bool = False
    ) -> tuple[float, ...] | None:
        """So many numbers, or one for all if `single`; None where there are none.

        divisors: none of them may be too small to divide by.
        """
        value = self.get(key)
        if is_empty(value):
            return None
        if single and not isinstance(value, list):
            value = [value] * count
        if not isinstance(value, list) or not all(map(is_number, value)):
            self.refuse(key, ", not a list of usable numbers")
        if len(value) != count:
            self.refuse(key, f": {len(value)} values for {count}")
        if divisors and any(abs(each) < SMALLEST for each in value):
            self.refuse(key, "; nothing can be divided by 0")
        return tuple(value)

    def ids(self, key: str, vocabulary: int, single: bool = True) -> tuple[int, ...]:
        """A list of token ids, or none; one alone if `single`."""
        value = self.get(key)
        listed = [value] if single and type(value) is int else value
        if is_off(listed) and type(listed) is not int:
            return ()
        if type(listed) is not list or not all(type(each) is int for each in listed):
            self.refuse(key, ", not a list of token ids")
        beyond = [token for token in listed if not 0 <= token < vocabulary]
        if beyond:
            told = f": {beyond[0]} is not in the vocabulary (0 to {vocabulary - 1})"
            self.refuse(key, told)
        return tuple(listed)

    def pass_over(self, *keys: str) -> None:
        self.taken |= set(keys)

    def rest(self) -> dict[str, Any]:
        """What nobody has asked for."""
        return {k: v for k, v in self.values.items() if k not in self.taken}

    def unknown(self) -> list[str]:
        """The keys of that which state something."""
        return unknown_keys(self.values, self.taken, self.full(""))


def _same(value: Any, wanted: Any) -> bool:
    return type(value) is type(wanted) and value == wanted
