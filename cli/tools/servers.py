"""MCP servers as users name them: a command, a URL, or [mcp.NAME] in the settings."""

import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..config.file import Configuration
from ..errors import UsageError
from ..usage.mistakes import suggestion

if TYPE_CHECKING:
    from mlx_gemma4.tools.server import Server

MCP = "mcp"  # the table, and the option
OF_COMMAND = ("args", "env", "cwd")
VARIABLE = re.compile(r"\$\{(\w+)\}")


def chosen_servers(words: Iterable[str], config: Configuration) -> "list[Server]":
    """What `--mcp` was given. Raises UsageError for a word that is none of the three,
    and for a variable that is not set."""
    from mlx_gemma4.reading.sources import is_url
    from mlx_gemma4.tools.server import Server, host_of, name_of

    servers = []
    for word in dict.fromkeys(words):
        if word in tables_in(config):
            servers.append(server_in(config, word, os.environ))
        elif is_url(word):
            servers.append(Server(host_of(word), url=word))
        else:
            command = _split(word)
            if not command:
                raise UsageError("--mcp takes a command, a URL or a name.")
            if len(command) == 1 and shutil.which(os.path.expanduser(word)) is None:
                raise _unknown(word, config)
            servers.append(Server(name_of(command), command))
    return servers


def tables_in(config: Configuration) -> dict[str, Any]:
    """[mcp.NAME] by name; nothing where `mcp` is the option's key."""
    found = config.table.get(MCP)
    return found if isinstance(found, dict) else {}


def check_servers(config: Configuration) -> None:
    """Raises UsageError, with its line, for what is wrong in a [mcp.NAME]."""
    for name in tables_in(config):
        server_in(config, name, None)


def server_in(
    config: Configuration, name: str, environ: Mapping[str, str] | None
) -> "Server":
    """That of [mcp.NAME], with its `${VARIABLES}` replaced if `environ` is given."""
    from mlx_gemma4.tools.server import TIMEOUT, Server

    table = tables_in(config)[name]
    _check(config, name, table)

    def filled(key: str, text: str) -> str:
        return text if environ is None else _filled(config, (name, key), text, environ)

    def all_filled(key: str) -> dict[str, str]:
        return {k: filled(key, text) for k, text in table.get(key, {}).items()}

    tools = table.get("tools")
    return Server(
        name,
        command=tuple(
            filled("args" if number and "args" in table else "command", word)
            for number, word in enumerate(_command(config, name))
        ),
        url=filled("url", table.get("url", "")),
        env=all_filled("env"),
        cwd=config.beside(table["cwd"]) if "cwd" in table else None,
        headers=all_filled("headers"),
        trusted=table.get("trusted", False),
        tools=None if tools is None else tuple(tools),
        timeout=float(table.get("timeout", TIMEOUT)),
    )


def hidden(path: tuple[Any, ...], value: object) -> object:
    """A value as it may be shown: of what a server is given to prove who asks, only the
    names of variables."""
    if path[:1] != (MCP,) or len(path) < 3 or not isinstance(value, str):
        return value
    if path[2] == "url":
        return re.sub(r"(?<=//)[^/@]*@|\?.*", "…", value)
    if path[2] not in ("env", "headers") or VARIABLE.fullmatch(value):
        return value
    return "…" + "".join(found[0] for found in VARIABLE.finditer(value))


def _unknown(word: str, config: Configuration) -> UsageError:
    hint = suggestion(word, tables_in(config))
    if word.endswith(".py"):
        hint = f" A file of functions is --tool {word}; a server, python {word}."
    return UsageError(
        f"There is no program {word!r}, and no [mcp.{word}] in {config.path}.{hint}"
    )


def _split(line: str) -> tuple[str, ...]:
    """The words of a command line; the whole of it, if it is a program."""
    if shutil.which(os.path.expanduser(line)):
        return (line,)
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        raise UsageError(f"The command {line!r} cannot be read: {error}.") from None


def _command(config: Configuration, name: str) -> tuple[str, ...]:
    table = tables_in(config)[name]
    if "command" not in table:
        return ()
    stated = table["command"]
    if isinstance(stated, str):
        try:
            stated = [stated] if "args" in table else _split(stated)
        except UsageError as error:
            raise config.mistake(str(error), MCP, name, "command") from None
    first, *rest = [*stated, *table.get("args", ())]
    # A path that is no word for a shell begins where the file is.
    if os.sep in first and "cwd" not in table and not VARIABLE.match(first):
        first = str(config.beside(first))
    return (first, *rest)


def _filled(
    config: Configuration,
    path: tuple[str, ...],
    text: str,
    environ: Mapping[str, str],
) -> str:
    def value(found: re.Match[str]) -> str:
        if found[1] not in environ:
            text = f"{found[1]} is not set in the environment."
            raise config.mistake(text, MCP, *path)
        return environ[found[1]]

    return VARIABLE.sub(value, text)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_command(value: object) -> bool:
    words = [value] if isinstance(value, str) else value
    return isinstance(words, list) and _is_list(words) and words[:1] not in ([], [""])


def _is_table(value: object) -> bool:
    return isinstance(value, dict) and _is_list(list(value.values()))


def _is_seconds(value: object) -> bool:
    return type(value) in (int, float) and 0 < float(str(value)) < float("inf")


KEYS: dict[str, tuple[Callable[[object], bool], str]] = {
    "command": (_is_command, "a command"),
    "args": (_is_list, "a list of texts"),
    "env": (_is_table, "a table of texts"),
    "cwd": (_is_text, "a folder"),
    "url": (
        lambda v: _is_text(v) and str(v).lower().startswith(("http://", "https://")),
        "a URL that begins with http:// or https://",
    ),
    "headers": (_is_table, "a table of texts"),
    "trusted": (lambda v: isinstance(v, bool), "true or false"),
    "tools": (_is_list, "a list of names"),
    "timeout": (_is_seconds, "a number of seconds"),
}


def _check(config: Configuration, name: str, table: object) -> None:
    """Raises UsageError for a key that servers do not have, or of another kind."""
    if not isinstance(table, dict):
        text = f"servers are tables: [mcp.{name}] with a command or a url."
        raise config.mistake(text, MCP, name)
    for key, value in table.items():
        if key not in KEYS:
            text = f"an MCP server has no {key!r}.{suggestion(key, KEYS)}"
            raise config.mistake(text, MCP, name, key)
        fits, words = KEYS[key]
        if not fits(value):
            shown = "" if key in ("env", "headers", "url") else f" {value!r}"
            text = f"{key} is{shown or ' something else'}; an MCP server takes {words}."
            raise config.mistake(text, MCP, name, key)
    if ("command" in table) == ("url" in table):
        text = f"[mcp.{name}] needs a command or a url, and one of them only."
        raise config.mistake(text, MCP, name)
    for key in ("headers",) if "command" in table else OF_COMMAND:
        if key in table:
            other = "a url" if key == "headers" else "a command"
            raise config.mistake(f"{key} is for {other}.", MCP, name, key)
