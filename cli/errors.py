"""Exit codes, and how an error is said: one line, what went wrong and the remedy.

0 done, 1 unexpected error, 2 wrong usage, 3 model not found or damaged, 4 not
enough memory or disk, 5 bad input file, 6 an answer without the form asked for, 130
stopped with Ctrl-C. A reader that closes
the pipe early (`gemma4 chat … | head -1`) is no error.
"""

import errno
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from typer._click.exceptions import NoArgsIsHelpError

from mlx_gemma4 import errors
from mlx_gemma4.convert.errors import OutputError, RecipeError
from mlx_gemma4.state import FULL
from mlx_gemma4.tune.errors import Diverged

from .render import fitted, json_line
from .usage.mistakes import explained

FAILED = 1
USAGE = 2
MODEL = 3
MEMORY = 4
INPUT = 5
FORM = 6
STOPPED = 130

MEMORY_HINT = "Choose a smaller or more strongly quantised model, or close other apps."


class InputError(ValueError):
    """A file or standard input that cannot be used."""


class UsageError(ValueError):
    """Options or a prompt that make no sense together."""


def no_file(path: object, hint: str = "") -> InputError:
    """The error for a file that was named and is not there."""
    return InputError(f"There is no file {path}.{hint}")


def refuse_existing(path: Path) -> None:
    """Raises UsageError for an output file that would be replaced."""
    if os.path.exists(path):  # Path.exists would raise for a name that is too long
        raise UsageError(f"{path} exists; add --overwrite to replace it.")


def unwritable(path: object, error: Exception) -> Exception:
    """The error for a file that could not be written."""
    if isinstance(error, errors.DiskFullError):
        return error
    reason = getattr(error, "strerror", None) or error
    return InputError(f"Cannot write {path}: {reason}.")


class RankError(RuntimeError):
    """What went wrong in another of several processes, with its exit code."""

    def __init__(self, told: str, code: int) -> None:
        super().__init__(told)
        self.code = code


class FormError(ValueError):
    """An answer that does not have the form asked for."""


class AnswerError(ValueError):
    """What the model said is not what was asked for."""


def exit_code(error: BaseException) -> int:
    """The exit code for an error, by kind."""
    kinds: list[tuple[type[BaseException] | tuple[type[BaseException], ...], int]] = [
        ((KeyboardInterrupt, typer.Abort), STOPPED),
        ((UsageError, errors.TakenError, RecipeError), USAGE),
        ((errors.ChatError, errors.BenchError), USAGE),
        ((errors.ModelNotFoundError, errors.CheckpointError), MODEL),
        ((MemoryError, errors.DiskFullError), MEMORY),
        ((InputError, errors.MediaError, errors.DataError), INPUT),
    ]
    for kind, code in kinds:
        if isinstance(error, kind):
            return code
    if isinstance(error, FormError):
        return FORM
    if isinstance(error, RankError):
        return error.code
    if _name_too_long(error):
        return USAGE
    refused = errors.is_out_of_memory(error)
    full = isinstance(error, OSError) and error.errno in FULL
    return MEMORY if refused or full else FAILED


def _name_too_long(error: BaseException) -> bool:
    """Whether what was named on the command line cannot be a file."""
    if not isinstance(error, OSError) or error.filename is None:
        return False
    return error.errno == errno.ENAMETOOLONG


def batch_code(codes: Sequence[int], total: int) -> int:
    """The exit code where each of `codes` is that of a file that failed, of `total`:
    that of all of them if none succeeded and they agree, else INPUT."""
    if not codes:
        return 0
    return codes[0] if len(codes) == total and len(set(codes)) == 1 else INPUT


def concerns_all(error: Exception) -> bool:
    """Whether what went wrong with one of several files would with the others."""
    kinds = (typer.Exit, BrokenPipeError, UsageError, errors.DiskFullError)
    model = (errors.ModelNotFoundError, errors.CheckpointError)
    full = isinstance(error, OSError) and error.errno in FULL
    return full or isinstance(error, kinds + model)


def wants_tracebacks() -> bool:
    """What GEMMA4_DEBUG says."""
    return os.environ.get("GEMMA4_DEBUG", "") not in ("", "0")


def report_file(error: Exception, as_json: bool, name: str) -> int:
    """Says on stderr why one of several files failed; returns its exit code."""
    if wants_tracebacks():
        traceback.print_exc()
    code = exit_code(error)
    return report(code, *explain(error, code), as_json, name)


def explain(error: BaseException, code: int) -> tuple[str, str | None]:
    """Message and remedy. Library errors carry their remedy in the message."""
    if code == STOPPED:
        return "stopped", None
    if isinstance(error, errors.DiskFullError | errors.RoomError | RankError):
        return str(error), None
    if isinstance(error, OSError) and error.errno in FULL:
        return f"nothing more can be written: {error.strerror}.", None
    if isinstance(error, OSError) and _name_too_long(error):
        return f"No file can have a name as long as {str(error.filename)[:40]}…", None
    if code == MEMORY:
        return f"not enough memory: {error}".rstrip(": "), MEMORY_HINT
    plain = AnswerError | OutputError | errors.BusyError | errors.ShardError | Diverged
    if code == FAILED and not isinstance(error, plain):
        hint = "Set GEMMA4_DEBUG=1 to see where."
        return f"{type(error).__name__}: {error}", hint
    return str(error), None


def report(
    code: int, message: str, hint: str | None, as_json: bool, file: str | None = None
) -> int:
    """Says an error on stderr, as JSON with the file that it is about, where there may
    be several; returns its exit code."""
    if as_json:
        error = {"code": code, "message": message, "hint": hint}
        if file is not None:
            error["file"] = file
        text = json_line({"error": error}, sys.stderr)
    elif code == STOPPED:
        text = "(stopped)"
    else:
        text = f"gemma4: {message}" + (f"\n{hint}" if hint else "")
        text = fitted(text, sys.stderr)
    print(text, file=sys.stderr, flush=True)
    return code


def report_usage(error: typer.TyperException, as_json: bool) -> int:
    """A mistake on the command line, found by typer."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "gemma4"
    message, hint = explained(error), f"Try '{path} --help'."
    if isinstance(error, NoArgsIsHelpError):  # its message is the help
        if not as_json:
            print(message, file=sys.stderr)
            return error.exit_code
        message = f"{path} needs a command."
    return report(error.exit_code, message, hint, as_json)


def discard_stdout() -> None:
    """After a closed pipe: keeps Python from failing again when it flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def flush_stdout() -> None:
    """Writes what is left, or gives it up where it cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        discard_stdout()


@contextmanager
def unread() -> Iterator[None]:
    """Around what is printed beside the result, which is a folder or an exit code: what
    the command does goes on even if nobody reads it."""
    try:
        yield
    except BrokenPipeError:
        discard_stdout()


@contextmanager
def reported(as_json: bool) -> Iterator[None]:
    """Runs a command's body; any error ends it with a line and an exit code."""
    try:
        yield
        sys.stdout.flush()
    except typer.Exit:
        raise
    except BrokenPipeError:
        discard_stdout()
        raise typer.Exit(0) from None
    except typer.TyperException as error:
        raise typer.Exit(report_usage(error, as_json)) from None
    except (Exception, KeyboardInterrupt) as error:
        if wants_tracebacks():
            raise
        flush_stdout()
        code = exit_code(error)
        message, hint = explain(error, code)
        raise typer.Exit(report(code, message, hint, as_json)) from None
