"""Google's chat templates, which are not part of this repository."""

import os
from pathlib import Path

import pytest


def google_template(name: str) -> str:
    """`small` (E2B, E4B) or `large`; skips the test where the file is not there."""
    file = Path(os.environ.get("GEMMA4_TEMPLATES", ""), f"{name}.jinja")
    if not file.is_file():
        pytest.skip("needs Google's templates: set GEMMA4_TEMPLATES to their folder")
    return file.read_text(encoding="utf-8")
