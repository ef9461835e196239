"""`gemma4 logs rm`: conversations leave the disk, and what a model has read of them.

What cannot be removed keeps nothing else on the disk: it is told behind that.
"""

import sys
from collections.abc import Collection

import typer

from mlx_gemma4.errors import DiskFullError

from ..errors import InputError, UsageError
from ..render import Screen
from .opening import DamagedStore, store_path
from .store import NONE, Store, is_number, opened

READ = "what was read of prompts"


def remove(which: list[str] | None, yes: bool) -> None:
    """Removes conversations, or all. Raises UsageError, and InputError or DiskFullError
    for what could not be removed, once all else is gone."""
    problem = None
    try:
        if which is None and not store_path().exists():
            numbers: list[int] = []
        else:
            with opened() as store:
                numbers = chosen(store, which)
    except (InputError, DiskFullError) as error:
        problem, numbers = error, [int(w) for w in which or () if is_number(w)]
    known = bool(numbers) and problem is None
    if not known and not (something_read() and (numbers or which is None)):
        raise told(problem) if problem else UsageError(NONE)
    count = len(numbers)
    said = f"{count} conversation{'s' if count != 1 else ''}" if known else READ
    said = said if known or which is None else "what was read of them"
    if yes or confirmed(f"Remove {said}?"):
        kept = forget(None if which is None else {str(number) for number in numbers})
        if known:
            problem = remove_from_store(numbers)
        if (problem if known else kept) is None:
            Screen().note(f"Removed {said}.")
        problem = problem or kept
    if problem is not None:
        raise told(problem)


def told(problem: Exception) -> Exception:
    if not isinstance(problem, DamagedStore):
        return problem
    return InputError(
        f"{problem} Its conversations are still in it: delete the file to remove them."
    )


def remove_from_store(numbers: list[int]) -> Exception | None:
    try:
        with opened() as store:
            store.remove(numbers)
    except (InputError, DiskFullError) as error:
        return error
    return None


def something_read() -> bool:
    from mlx_gemma4.kept.folder import files, prompts_folder

    return bool(files(prompts_folder()))


def forget(conversations: Collection[str] | None) -> InputError | None:
    """Removes what a model has read of conversations, or of all; what stands in the
    way."""
    from mlx_gemma4.kept.folder import prompts_folder, remove_all, remove_of

    folder = prompts_folder()
    try:
        if conversations is None:
            remove_all(folder)
        else:
            remove_of(folder, conversations)
    except OSError as error:
        name = error.filename or folder
        return InputError(f"{name} cannot be removed: {error.strerror}.")
    return None


def chosen(store: Store, which: list[str] | None) -> list[int]:
    """The conversations that are named, or all. Raises UsageError."""
    if which is None:
        return [summary.id for summary in store.summaries()]
    return list(dict.fromkeys(store.found(each) for each in which))


def confirmed(question: str) -> bool:
    """Asks on a terminal. Raises UsageError elsewhere."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("Nothing was removed: add --yes, since nobody can be asked.")
    return typer.confirm(question, err=True)
