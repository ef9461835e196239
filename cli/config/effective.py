"""What is set, by the file or by the environment, and which of the two counts."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from typer._click.core import Command

from ..models.default import kept_default
from ..tools.servers import hidden
from .defaults import MCP, PRESET, commands_in, keys_of
from .file import Configuration, Table


@dataclass(frozen=True)
class Setting:
    """key: with dots, as in the file. origin: in words. used: whether it counts."""

    key: str
    value: Any
    origin: str
    used: bool = True


def settings(config: Configuration, command: Command) -> list[Setting]:
    """Variables, then what is in the file in its order."""
    variables = variables_of(command)
    found = [
        Setting(key, os.environ[name], f"{name} in the environment")
        for key, name in variables.items()
    ]
    for path, value in flat(config.table):
        line = f"{config.path.name}, line {config.line(*path)}"
        over = variables.get(path[-1].replace("_", "-"))
        used = over is None or path[0] in (PRESET, MCP)
        line += "" if used else f" (not used: {over} is set)"
        shown = hidden(path, value)
        found.append(Setting(".".join(map(_key, path)), shown, line, used))
    kept = kept_default()
    if kept and not any(each.key == "model" for each in found):
        found.append(Setting("model", kept, "gemma4 default"))
    return found


def variables_of(command: Command) -> dict[str, str]:
    """The environment variables that are set, by the keys of their options."""
    named = {key: str(option.envvar) for key, option in keys_of(command).items()}
    found = {key: name for key, name in named.items() if os.environ.get(name)}
    for each in commands_in(command).values():
        found |= variables_of(each)
    return found


def flat(table: Table, path: tuple[str, ...] = ()) -> Iterator[tuple[Any, Any]]:
    """Every value with its keys."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, (*path, key))
        else:
            yield (*path, key), value


def toml(value: object) -> str:
    """A value as the file has it."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _key(name: str) -> str:
    plain = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if plain else toml(name)
