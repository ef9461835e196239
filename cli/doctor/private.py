"""Takes out of a report what would tell who made it."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..render import printable

# Names that many machines share tell nothing, and are words of paths besides.
SHARED = frozenset(
    {"root", "user", "admin", "ubuntu", "models", "model", "huggingface"}
)
USER = "USER"


class Private:
    """Writes the home folder as ~, and the user's name in other paths as USER."""

    def __init__(self, home: Path | None = None, user: str | None = None) -> None:
        home = Path.home() if home is None else home
        homes = {str(home), os.path.realpath(home)} - {"/"}
        longest = sorted(homes, key=len, reverse=True)
        self._homes = re.compile(
            "|".join(rf"{re.escape(each)}(?![\w.-])" for each in longest) or "(?!)"
        )
        name = _login() if user is None else user
        known = len(name) > 1 and name.lower() not in SHARED
        self._user = re.compile(
            rf"(?<=/){re.escape(name)}(?![\w.-])" if known else "(?!)"
        )

    def text(self, text: str) -> str:
        return self._user.sub(USER, self._homes.sub("~", text))

    def rows(self, rows: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """The same of pairs, each in one line that moves no cursor."""
        return [(self._line(name), self._line(text)) for name, text in rows]

    def _line(self, text: str) -> str:
        return printable(self.text(text).replace("\n", " ").replace("\t", " "))

    def value(self, value: Any) -> Any:
        """The same of all text in something that JSON can hold."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(key): self.value(each) for key, each in value.items()}
        if isinstance(value, Sequence):
            return [self.value(each) for each in value]
        return value


def _login() -> str:
    return os.environ.get("USER") or os.environ.get("LOGNAME") or Path.home().name
