"""A request's fields, each read as what it has to be: nothing is passed over unseen."""

from collections.abc import Collection, Mapping
from typing import Any

from ..serve.errors import Refused

LARGEST = 2.0**100  # of a number, unless it has a limit of its own


class Fields:
    """What a JSON object in a request states; null states nothing.

    where: what stands before a field's name in messages, such as "messages[0]."
    """

    def __init__(self, values: Any, where: str = "") -> None:
        if not isinstance(values, Mapping):
            named = where.rstrip(".") or "The body"
            raise Refused(400, f"{named} must be an object.", param=named)
        self.values = {k: v for k, v in values.items() if v is not None}
        self.where = where

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def only(self, known: Collection[str], harmless: Collection[str] = ()) -> None:
        """Raises Refused for a field that is neither known nor harmless."""
        for name in self.values:
            if name not in known and name not in harmless:
                shown = self.where + name[:100]
                raise Refused(
                    400,
                    f"{shown} is not known to this server: leave it out.",
                    param=shown,
                    code="unknown_parameter",
                )

    def must(self, name: str, value: Any) -> None:
        """Raises Refused for a field that states anything else than `value`, which is
        all that can be done."""
        if self.values.get(name, value) != value:
            raise self.wrong(name, f"can only be {value!r} here", "unsupported_value")

    def wrong(self, name: str, why: str, code: str = "invalid_value") -> Refused:
        shown = self.where + name
        return Refused(400, f"{shown} {why}.", param=shown, code=code)

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "must be a string")
        return value

    def one_of(self, name: str, choices: Collection[str]) -> str | None:
        value = self.text(name)
        if value is not None and value not in choices:
            raise self.wrong(name, f"must be one of {', '.join(choices)}")
        return value

    def flag(self, name: str) -> bool | None:
        value = self.values.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "must be true or false")
        return value

    def number(self, name: str, least: float, most: float = LARGEST) -> float | None:
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, "must be a number")
        if not least <= value <= most:
            raise self.wrong(name, f"must be {_between(least, most)}")
        return value

    def whole(self, name: str, least: int, most: float = LARGEST) -> int | None:
        value = self.number(name, least, most)
        if value is not None and value != int(value):
            raise self.wrong(name, "must be a whole number")
        return None if value is None else int(value)

    def list(self, name: str) -> list[Any] | None:
        value = self.values.get(name)
        if value is not None and not isinstance(value, list):
            raise self.wrong(name, "must be a list")
        return value

    def object(self, name: str) -> "Fields | None":
        """The fields of a field."""
        value = self.values.get(name)
        return None if value is None else Fields(value, f"{self.where}{name}.")


def _between(least: float, most: float) -> str:
    return f"{least:g} or more" if most == LARGEST else f"from {least:g} to {most:g}"
