"""Git LFS pointers: a few lines of text that a clone without git-lfs has for a file."""

from pathlib import Path

from ..errors import CheckpointError

START = b"version https://git-lfs"


def refuse_pointer(path: Path, start: bytes) -> None:
    """Raises CheckpointError where `path`, which has this start, is a pointer."""
    if start.startswith(START):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the file itself: run `git lfs install` "
            f"and `git lfs pull` in {path.parent}."
        )
