"""Tools out of a file of Python that somebody has written."""

import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from inspect import isfunction, unwrap
from pathlib import Path
from types import ModuleType

from ..errors import ChatError
from .declare import tool_of
from .tool import Tool


def load_tools(path: str | Path) -> list[Tool]:
    """The public functions that a file defines; with `@tool` on some, those alone.

    The file is run, as a module of its own. Files beside it can be imported there.

    Raises ChatError that names the file and the line of what is wrong in it.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        raise ChatError(
            f"{path} only declares tools: pass it with --tools. What runs them is a "
            "FILE.py with a function for each."
        )
    if not path.is_file():
        raise ChatError(_missing(path))
    tools = [replace(tool, source=path.name) for tool in _tools_of(_run(path), path)]
    if not tools:
        raise ChatError(f"{path} defines no function whose name is public.")
    return tools


def _missing(path: Path) -> str:
    if path.exists():
        return f"{path} is no file: name a FILE.py with a function for each tool."
    meant = path.parent / f"{path.name}.py"
    hint = f" Did you mean {meant}?" if meant.is_file() else ""
    return f"There is no file {path}.{hint}"


def _tools_of(module: ModuleType, path: Path) -> Iterator[Tool]:
    public = {k: v for k, v in vars(module).items() if not k.startswith("_")}
    made = {id(value): value for value in public.values() if isinstance(value, Tool)}
    yield from made.values()
    for value in public.values() if not made else ():
        if not isfunction(value) or value.__module__ != module.__name__:
            continue
        try:
            yield tool_of(value)
        except ChatError as error:
            line = unwrap(value).__code__.co_firstlineno
            raise ChatError(f"{path}, line {line}: {error}") from None


def _run(path: Path) -> ModuleType:
    file = path.resolve()
    module = ModuleType(f"tools of {file}")  # which no import statement can mean
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # where types look for their names
    # Behind everything: a file beside it must not be taken for a library's.
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    try:  # without a __pycache__ beside it
        exec(compile(file.read_bytes(), file, "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise ChatError(_where(error, path, file)) from error
    return module


def _where(error: BaseException, path: Path, file: Path) -> str:
    """What went wrong in a file, and in which line of it."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"{path}, line {error.lineno}: {error.msg}."
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    line = f", line {lines[-1]}" if lines else ""
    said = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":.")
    said = said.removeprefix("ChatError: ")  # of ours, which say it all
    hint = ""
    if isinstance(error, ModuleNotFoundError):
        hint = f" Install it for {sys.executable}."
    return f"{path}{line}: {said}.{hint}"
