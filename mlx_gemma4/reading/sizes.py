"""Numbers of bytes: how they are written for people, and how many a disk has left."""

import shutil
from pathlib import Path


def size(count: float) -> str:
    """Bytes in decimal units, three digits: `1.53 GB`, `402 MB`, `8.52 MB`."""
    number, unit = (count / 1e9, "GB") if count >= 999.5e6 else (count / 1e6, "MB")
    decimals = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{decimals}f} {unit}"


def existing(place: Path) -> Path:
    """`place`, or the nearest above it that is there."""
    place = place.absolute()
    return place if place.exists() else existing(place.parent)


def free_space(place: Path) -> int:
    """Bytes that are free where a file or folder is, or will be."""
    return shutil.disk_usage(existing(place)).free
