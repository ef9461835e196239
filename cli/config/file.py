"""The user's settings: where the file is, what it says, and in which line."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_gemma4.reading.home import with_home

from ..errors import UsageError

Table = dict[str, Any]


def config_file() -> Path:
    """By the XDG rules, on macOS too; never in the current folder."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    folder = base if os.path.isabs(base) else "~/.config"
    return Path(os.path.expanduser(folder)) / "gemma4" / "config.toml"


@dataclass(frozen=True)
class Configuration:
    """What the file says; nothing where there is none."""

    path: Path
    text: str = ""
    table: Table = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Configuration":
        """Raises UsageError for a file that cannot be read or is no TOML."""
        if not os.path.lexists(path):
            return cls(path)
        import tomllib

        try:
            text = path.read_bytes().decode("utf-8-sig")
            return cls(path, text, tomllib.loads(text))
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path} is not valid TOML: {error}") from None

    def line(self, *keys: str) -> int:
        """Where a value begins, from 1: behind the last lines that are whole without
        it."""
        import tomllib

        lines, before = self.text.splitlines(keepends=True), 0
        for count in range(1, len(lines) + 1):
            try:
                found: Any = tomllib.loads("".join(lines[:count]))
            except ValueError:  # in the middle of a value
                continue
            for key in keys:
                found = found.get(key) if isinstance(found, dict) else None
            if found is not None:
                break
            before = count
        return before + 1

    def mistake(self, text: str, *keys: str) -> UsageError:
        """An error about a value, with its line."""
        return UsageError(f"{self.path}, line {self.line(*keys)}: {text}")

    def beside(self, name: str) -> Path:
        """A file that the configuration names: from its own folder."""
        return self.path.parent / with_home(name)
