"""Tools out of a file of Python that somebody has written."""

import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from inspect import isfunction
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
    if path.suffix == ".json":
        raise ChatError(
            f"{path} can declare tools, but not run them: pass it with --tools, or a "
            "FILE.py with a function for each."
        )
    if not path.is_file():
        raise ChatError(f"There is no file {path}.")
    module = _run(path)
    try:
        tools = [replace(tool, source=path.name) for tool in _tools_of(module)]
    except ChatError as error:
        raise ChatError(f"{path}: {error}") from None
    if not tools:
        raise ChatError(f"{path} defines no function whose name is public.")
    return tools


def _tools_of(module: ModuleType) -> Iterator[Tool]:
    public = {k: v for k, v in vars(module).items() if not k.startswith("_")}
    made = {id(value): value for value in public.values() if isinstance(value, Tool)}
    yield from made.values()
    for value in public.values() if not made else ():
        if isfunction(value) and value.__module__ == module.__name__:
            yield tool_of(value)


def _run(path: Path) -> ModuleType:
    file = path.resolve()
    name = f"tools of {file}"  # one that no import statement can mean
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ChatError(f"{path} is no file of Python: call it FILE.py.")
    module = module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and type hints look for names
    # Behind everything: a file beside it must not be taken for a library's.
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ChatError(_where(error, path, file)) from error
    return module


def _where(error: BaseException, path: Path, file: Path) -> str:
    """What went wrong in a file, and in which line of it."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"{path}, line {error.lineno}: {error.msg}."
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    line = f", line {lines[-1]}" if lines else ""
    said = f"{type(error).__name__}: {error}".removesuffix(": ").rstrip(".")
    hint = ""
    if isinstance(error, ModuleNotFoundError):
        hint = f" Install it for {sys.executable}."
    return f"{path}{line}: {said}.{hint}"
