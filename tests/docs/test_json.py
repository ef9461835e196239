"""The receipt of docs/json.md: its command runs, and prints what its schema says."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from command import Runner
from pages import blocks, commands
from places import ROOT, SHAPES

PAGE = ROOT / "docs" / "json.md"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PAGE.is_file(), reason="no page is beside the tests"),
]


def test_a_receipt(tmp_path: Path, environ: dict[str, str]) -> None:
    """The demo model sees none on the picture, and has to write one."""
    pytest.importorskip("llguidance", reason="needs the extra: pip install .[json]")
    validate = pytest.importorskip("jsonschema", reason="not installed").validate
    [schema] = blocks(PAGE, "json")
    (tmp_path / "receipt.json").write_text(schema)
    shutil.copy(SHAPES, tmp_path / "receipt.png")
    [shown] = [s for s in commands() if s.page == PAGE and "receipt.json" in s.command]
    words = shlex.split(shown.command.replace("e4b", "demo").replace("1120", "70"))[1:]
    done = Runner(tmp_path, environ)(*words)
    assert done.returncode == 0, done.stderr
    validate(json.loads(done.stdout), json.loads(schema))
