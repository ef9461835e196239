"""The model of every command that names none, as the user chose it once."""

import os
from pathlib import Path

from mlx_gemma4.errors import ModelNotFoundError
from mlx_gemma4.hub.names import name_of
from mlx_gemma4.reading.home import with_home
from mlx_gemma4.state import save_text, state_folder

from ..errors import unwritable

FROM_ENVIRONMENT = "GEMMA4_MODEL"


def default_file() -> Path:
    return state_folder() / "default"


def kept_default() -> str | None:
    """The name that is kept, whether or not the model is still here."""
    try:
        return default_file().read_text("utf-8", errors="replace").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None


def keep_default(name: str) -> None:
    """Raises InputError where nothing can be written."""
    file = default_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_text(file, name_of(name) + "\n")
    except OSError as error:
        raise unwritable(file, error) from None


def forget_default() -> None:
    """Raises InputError where nothing can be removed."""
    try:
        default_file().unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(default_file(), error) from None


def usable_default() -> str | None:
    """The name that is kept. Raises ModelNotFoundError where its model is gone."""
    from mlx_gemma4.hub.resolve import local_folder

    if (name := kept_default()) is None:
        return None
    try:
        there = local_folder(name) is not None
    except (ModelNotFoundError, ValueError):
        there = False
    if not there:
        how = (
            "choose another with"
            if _is_path(name)
            else f"`gemma4 pull {name}` gets it, or"
        )
        raise ModelNotFoundError(
            f"The default model, {name}, is not here any more: {how} "
            "`gemma4 default NAME`, or `gemma4 default --unset`."
        )
    return name


def _is_path(name: str) -> bool:
    return os.path.isabs(with_home(name))
