"""What is kept between runs: in which folder, and never half written."""

import os
from pathlib import Path


def state_folder() -> Path:
    """Where histories and measurements live, by the XDG rules, on macOS too."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "gemma4"


def save_text(file: Path, text: str) -> None:
    """Write a file in one go: whoever reads it sees the old one or the new one, however
    many processes write it."""
    work = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        work.write_text(text, encoding="utf-8")
        os.replace(work, file)
    finally:
        work.unlink(missing_ok=True)  # where it could not be written
