"""The user's settings as defaults of options.

A key is the name of an option and holds for each command in its table that has it:
those above all tables for every command, those in `[tune]` for every command of tune. A
nearer table counts more. `[preset.NAME]` is used with `--preset NAME`, and `[mcp.NAME]`
with `--mcp NAME`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
from typer._click.core import Command, Context
from typer.core import TyperGroup, TyperOption

from ..errors import UsageError
from ..tools.servers import MCP, check_servers, tables_in
from ..usage.command import MISTAKE
from ..usage.mistakes import suggestion, taken
from .file import Configuration, Table, config_file

CONFIG = "config"  # the command that these settings are not for
PRESET = "preset"  # the option, and the table
PRESETS = "gemma4.presets"  # in context.meta: the defaults of each, by command
CHOSEN = "gemma4.preset"  # in context.meta: the parameters that the chosen one sets
# Have to be typed: what removes, replaces or publishes, and what another run would be.
ONE_RUN = {
    *("all", "check", "dry-run", "json", "overwrite", "retry", "unset", "upload"),
    "yes",
}
NOT_OF = {"pull": {"draft"}}  # which fetches a drafter, and is no way of answering
KEYS = {"log": "keep"}  # options that go by another name here, too

Defaults = dict[str, Any]  # of a command by parameter, of a group by command


def configure(context: Context) -> None:
    """Make the user's settings the defaults of every command. A mistake in them is
    raised when a command runs, so that help can be had before."""
    try:
        read_defaults(context, Configuration.read(config_file()))
    except UsageError as error:
        context.meta[MISTAKE] = error


def read_defaults(context: Context, config: Configuration) -> None:
    """Into the context. Raises UsageError for a setting that no command has, or of
    another kind."""
    check_servers(config)
    others = {PRESET, MCP} if tables_in(config) else {PRESET}
    table = {key: value for key, value in config.table.items() if key not in others}
    reader = _Reader(config, context)
    context.default_map = reader.defaults(context.command, table, {}, ())
    presets = config.table.get(PRESET, {})
    if not _is_table(presets) or not all(map(_is_table, presets.values())):
        text = 'presets are tables: [preset.NAME]; [chat] preset = "NAME" uses one.'
        raise config.mistake(text, PRESET)
    every = commands_in(context.command).values()
    takers = [each for each in every if PRESET in keys_of(each)]
    group = TyperGroup(name=PRESET, commands=takers)
    context.meta[PRESETS] = {
        name: reader.defaults(group, own, {}, (PRESET, name))
        for name, own in presets.items()
    }


def use_preset(context: typer.Context, name: str | None) -> str | None:
    """Puts the settings of a preset before all but what is typed."""
    if name is None or context.resilient_parsing or MISTAKE in context.meta:
        return name
    presets = context.meta.get(PRESETS, {})
    if name not in presets:
        hint = suggestion(name, presets) or f" Make it in {config_file()}."
        raise UsageError(f"There is no preset {name!r}.{hint}")
    values = presets[name][context.info_name]
    context.default_map = {**(context.default_map or {}), **values}
    context.meta[CHOSEN] = set(values)
    for parameter in context.command.params:
        if parameter.name in values:
            parameter.envvar = None
    return name


def keys_of(command: Command) -> dict[str, TyperOption]:
    """The options of a command that can be set, by their keys."""
    found: dict[str, TyperOption] = {}
    for option in command.params:
        if isinstance(option, TyperOption):
            names = [name[2:] for name in option.opts if name.startswith("--")]
            names += [KEYS[name] for name in names if name in KEYS]
            found |= dict.fromkeys(names, option)
    typed = ONE_RUN | NOT_OF.get(command.name or "", set())
    return {key: option for key, option in found.items() if key not in typed}


def commands_in(command: Command) -> dict[str, Command]:
    """Those of a group that can be set up; nothing for a command."""
    found = command.commands if isinstance(command, TyperGroup) else {}
    return {name: each for name, each in found.items() if name != CONFIG}


def all_keys(command: Command) -> set[str]:
    """Of a command, or of all in a group."""
    if not isinstance(command, TyperGroup):
        return set(keys_of(command))
    return {key for each in commands_in(command).values() for key in all_keys(each)}


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


class _Reader:
    def __init__(self, config: Configuration, context: Context) -> None:
        self.config = config
        self.context = context

    def defaults(
        self,
        command: Command,
        table: Table,
        above: Mapping[str, tuple[str, ...]],
        path: tuple[str, ...],
    ) -> Defaults:
        """Of a command or group whose own table is `table`, in the file at `path`.

        above: where the settings from the tables above are, by their keys.
        """
        inside = commands_in(command)
        places = dict(above)
        for key, value in table.items():
            if not (_is_table(value) and key in inside):
                self._check_key(key, value, command, path)
                places[key.replace("_", "-")] = (*path, key)
        if not isinstance(command, TyperGroup):
            options = keys_of(command)
            used = {key: places[key] for key in places if key in options}
            return {
                options[key].name: self._value(options[key], key, command, place)
                for key, place in used.items()
            }
        return {
            name: self.defaults(each, table.get(name, {}), places, (*path, name))
            for name, each in inside.items()
        }

    def _check_key(
        self, key: str, value: object, command: Command, path: tuple[str, ...]
    ) -> None:
        known, inside = all_keys(command), commands_in(command)
        known -= {PRESET} if path[:1] in ((), (PRESET,)) else set()
        name = key.replace("_", "-")
        if _is_table(value):
            text = f"there is no command {key!r}.{suggestion(key, inside)}"
        elif name in ONE_RUN:
            text = f"{key} is for one run: type --{name}."
        elif name not in known:
            text = f"there is no setting {key!r}.{suggestion(name, known)}"
        else:
            return
        raise self.config.mistake(text, *path, key)

    def _value(
        self, option: TyperOption, key: str, command: Command, place: tuple[str, ...]
    ) -> Any:
        """As the option takes it."""
        value: Any = self.config.table
        for name in place:
            value = value[name]
        given = [value] if option.multiple and not isinstance(value, list) else value
        try:
            made = option.get_runtime_param().coerce(given, option, self.context)
        except typer.BadParameter:
            made = None
        if made is None or not _is_its_kind(option, given):
            named = f"{place[-1]} is {value!r}"
            text = f"{named}; {command.name} takes {taken(option, value)}"
            raise self.config.mistake(text, *place)
        if isinstance(made, list):
            return [self._from_here(each) for each in made]
        return self._from_here(made)

    def _from_here(self, made: Any) -> Any:
        return self.config.beside(str(made)) if isinstance(made, Path) else made


def _is_its_kind(option: TyperOption, value: object) -> bool:
    """Whether the file says text where text is meant: typer would make it of all."""
    kind = option.type_descriptor.annotation
    if option.type_descriptor.parameter_info.parser is not None:
        return True  # it was asked
    if kind in (str, list[str]):
        values = value if isinstance(value, list) else [value]
        return all(isinstance(each, str) for each in values)
    return kind is bool or not isinstance(value, bool)
