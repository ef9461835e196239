"""Folders that results go into: whether they can be had, made and filled."""

import os
from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx

from .errors import AdapterError


def check_folder(folder: Path) -> None:
    """Raises AdapterError where `folder` is a file, or could be neither made nor
    written: before hours of work, not after."""
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise AdapterError(f"{place} is a file: name a folder.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise AdapterError(f"{place} cannot be written: name another folder.")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises AdapterError where it cannot be."""
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AdapterError(f"{folder} cannot be made: {error.strerror}.") from None


def write_tensors(
    file: Path, tensors: Mapping[str, mx.array], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file, or nothing: what a full disk took is removed again.

    Raises AdapterError that names the folder; MLX says only how many bytes it had.
    """
    try:
        mx.save_safetensors(str(file), dict(tensors), dict(metadata))
    except RuntimeError as error:
        file.unlink(missing_ok=True)
        reason = str(error).rstrip(".")
        raise AdapterError(
            f"{file.parent} cannot be written ({reason}): make room on its disk, or "
            "name another folder."
        ) from None
