"""What comes in beside the prompt: standard input and the tools file."""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

from mlx_gemma4.errors import ChatError
from mlx_gemma4.launched import rank_of
from mlx_gemma4.reading.bounded import TEXT, read_all, read_bytes
from mlx_gemma4.reading.sources import MOST

from .errors import InputError, UsageError
from .media_formats import START, format_of

REMEDIES = {
    "image": " Pipe it into gemma4 describe -, or name it with --image.",
    "audio": " Pipe it into gemma4 transcribe -, or name it with --audio.",
    "video": " Pipe it into gemma4 describe -, or name it with --video.",
    None: "",
}


def has_piped_input() -> bool:
    """Whether standard input is a pipe, file or socket, not a terminal or null."""
    if sys.stdin is None or sys.stdin.closed or rank_of() is not None:
        return False
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def read_piped_bytes(example: str) -> bytes:
    """All of standard input. Raises UsageError that shows how to pipe something in."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(f"Nothing is piped in: {example}")
    return _all_of_stdin(MOST)


def check_stdin_ends() -> None:
    """Raises UsageError where it does not."""
    if rank_of() is not None:
        raise UsageError("What mlx.launch pipes in never ends: name a file instead.")


def _all_of_stdin(most: int) -> bytes:
    check_stdin_ends()
    try:
        return read_all(sys.stdin.buffer, most)
    except OSError as error:
        raise InputError(f"Standard input cannot be read: {error.strerror}.") from None


def read_piped_text() -> str:
    """All of standard input as text. Raises InputError for anything else."""
    data = _all_of_stdin(TEXT)
    form = format_of(data[:START])
    if form is not None:
        raise InputError(
            f"Standard input is {form.name}; only text can be piped in."
            f"{REMEDIES[form.kind]}"
        )
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"Standard input is not UTF-8 text (byte {error.start}). "
            "Convert it first, for example with iconv -t utf-8."
        ) from None
    if "\0" in text:
        raise InputError("Standard input is binary; only text can be piped in.")
    return text


def whole_prompt(prompt: str | None, piped: str) -> str:
    """Piped text goes before the prompt, a blank line between them."""
    asked = "" if prompt in (None, "-") else prompt or ""
    return "\n\n".join(part for part in (piped.strip(), asked.strip()) if part)


def read_tools(path: Path) -> list[dict[str, Any]]:
    """Tool declarations: a JSON list of functions, wrapped as OpenAI's or bare, or what
    an MCP server answers to tools/list."""
    if path.suffix.lower() == ".py":
        raise UsageError(
            f"{path} is Python, which --tool runs: --tool {path}. --tools takes a JSON "
            "file of declarations."
        )
    try:
        tools = json.loads(read_bytes(path).decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not usable JSON: {error}.") from None
    for key in ("result", "tools"):
        tools = tools.get(key, tools) if isinstance(tools, dict) else tools
    if not isinstance(tools, list):
        raise InputError(f"{path} has to hold a JSON list of tools.")
    if not tools:
        raise InputError(f"The list of tools in {path} is empty.")
    from mlx_gemma4.chat.tools import plain_tools

    try:
        return plain_tools(tools)
    except ChatError as error:
        raise InputError(f"{path}: {error}") from None
