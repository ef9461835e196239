"""Folders that results go into: whether they can be had, and making them."""

import os
from pathlib import Path

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
