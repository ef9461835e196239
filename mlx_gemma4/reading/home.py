"""Paths as people type them."""

import os
from pathlib import Path


def with_home(path: str | Path) -> Path:
    """`path` with `~` and `~user` spelled out; that of a user who is not here stays as
    it is and is no file, where Path.expanduser would raise RuntimeError."""
    return Path(os.path.expanduser(path))
