"""Reads the JSON files of a checkpoint: whatever is wrong with one, it is named."""

import json
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .bounded import read_bytes
from .pointers import refuse_pointer


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises CheckpointError, also where there is none."""
    try:
        raw = read_bytes(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from None
    refuse_pointer(path, raw)
    try:
        data = json.loads(raw.decode("utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"{path} is not valid JSON ({error}). Download it again."
        ) from None
    except RecursionError:
        raise CheckpointError(
            f"{path} is not valid JSON for a checkpoint: it nests too deeply. "
            "Download it again."
        ) from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds no JSON object. Download it again.")
    return data


def read_json(path: Path) -> dict[str, Any]:
    """As `read_object`, but {} for a file that is not there."""
    return read_object(path) if path.exists() or path.is_symlink() else {}
