"""How the help of a command is laid out: options in groups, each with its kind of value
in a word, and examples that can be copied."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from typer._click.core import Command, Context, Parameter
from typer._click.formatting import HelpFormatter
from typer.core import TyperArgument, TyperOption

NARROW, WIDE = 60, 80  # columns
LONG = 1000  # characters: no summary of a command is cut
OPTIONS = "Options"  # what belongs to no group; shown last
WORDS = {int: "N", float: "X", Path: "PATH"}


def width() -> int:
    """Of help, in columns: that of the window, but no wider than is easy to read."""
    return max(min(shutil.get_terminal_size().columns, WIDE) - 2, 20)


def metavar(parameter: TyperArgument | TyperOption) -> str:
    """What stands for its value in the help."""
    if parameter.metavar:
        return parameter.metavar
    if isinstance(parameter, TyperArgument):
        return parameter.name.upper()
    kind = parameter.type_descriptor
    if kind.choices:
        return "|".join(str(choice) for choice in kind.choices)
    return WORDS.get(kind.annotation, "TEXT")


def usage(parameter: Parameter) -> str | None:
    """An argument in the line of usage."""
    if not isinstance(parameter, TyperArgument):
        return None
    name = metavar(parameter)
    if " " in name:  # says by itself what may be left out
        return name
    name += "..." if parameter.nargs == -1 else ""
    return name if parameter.required else f"[{name}]"


def bounds(parameter: TyperArgument | TyperOption) -> str:
    """`from 0 to 1`, `from 1`, or nothing."""
    least, most = parameter.min, parameter.max
    words = [] if least is None else [f"from {least:g}"]
    return " ".join(words if most is None else [*words, f"to {most:g}"])


def row(parameter: TyperArgument | TyperOption, context: Context) -> tuple[str, str]:
    """Its two columns."""
    if isinstance(parameter, TyperArgument):
        name = metavar(parameter)
    else:
        name = ", ".join(sorted(parameter.opts, key=lambda opt: len(opt) > 2))
        name += "" if parameter.is_flag else f" {metavar(parameter)}"
        name = " / ".join([name, *parameter.secondary_opts])
    default = parameter.get_default(context, call=False)
    facts = [f"env: {parameter.envvar}"] if parameter.envvar else []
    empty = default is None or default is False or default == []
    if parameter.show_default and not empty:
        facts.append(f"default: {'on' if default is True else _shown(default)}")
    facts += [bounds(parameter)] if bounds(parameter) else []
    about = [parameter.help or "", f"[{'; '.join(facts)}]" if facts else ""]
    return name, " ".join(filter(None, about))


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def write_parameters(
    parameters: list[Parameter], context: Context, formatter: HelpFormatter
) -> None:
    """Arguments, then options in groups, in the order of their first ones."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for each in parameters:
        if not isinstance(each, TyperArgument | TyperOption) or each.hidden:
            continue
        title = "Arguments" if isinstance(each, TyperArgument) else OPTIONS
        groups.setdefault(each.rich_help_panel or title, []).append(row(each, context))
    if rest := groups.pop(OPTIONS, None):
        groups[OPTIONS] = rest
    for title, rows in groups.items():
        with formatter.section(title):
            formatter.write_dl(rows, col_max=6 if formatter.width < NARROW else 26)


def write_commands(commands: Iterable[Command], formatter: HelpFormatter) -> None:
    """In groups, each with what it does in a line."""
    groups: dict[str, list[Command]] = {}
    for each in commands:
        title = getattr(each, "rich_help_panel", None) or "Commands"
        groups.setdefault(title, []).append(each)
    for title, inside in groups.items():
        with formatter.section(title):
            rows = [(str(each.name), each.get_short_help_str(LONG)) for each in inside]
            formatter.write_dl(rows)


def write_examples(examples: str, formatter: HelpFormatter) -> None:
    """Line by line, as they are to be typed, however narrow the window."""
    if examples:
        with formatter.section("Examples"):
            for line in examples.splitlines():
                formatter.write(f"  {line.strip()}\n")
