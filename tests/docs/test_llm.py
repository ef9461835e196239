"""What docs/llm.md shows: its commands run, and print what is shown below them."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import blocks, commands
from PIL import Image
from places import ROOT, SHAPES

PAGE = ROOT / "docs" / "llm.md"

pytest.importorskip("llm", reason="needs the extra: pip install .[llm]")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PAGE.is_file(), reason="no page is beside the tests"),
]
PRINTED = [
    "The capital of France is Paris.",
    "The capital of Italy is Rome.",
    "The capital of Spain is Madrid. The capital of Norway is Oslo.",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the files that the page names."""
    tools, _ = blocks(PAGE, "py")
    (tmp_path / "weather.py").write_text(tools)
    (tmp_path / "build.log").write_text("What is the capital of France?")
    Image.open(SHAPES).convert("RGB").save(tmp_path / "photo.jpg", quality=95)
    shutil.copy(SHAPES.parent / "speech.wav", tmp_path / "note.wav")
    kept = {f"gemma4/{name}": {"temperature": 0} for name in ("demo", "e4b")}
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "model_options.json").write_text(json.dumps(kept))
    return tmp_path


def run(
    words: list[str], folder: Path, environ: dict[str, str], typed: str = ""
) -> subprocess.CompletedProcess[str]:
    """With the demo model in place of one that would have to be fetched."""
    return subprocess.run(
        [
            sys.executable,
            *(word.replace("gemma4/e4b", "gemma4/demo") for word in words),
        ],
        cwd=folder,
        env={**environ, "LLM_USER_PATH": str(folder / "llm")},
        input=typed,
        capture_output=True,
        text=True,
    )


def test_the_commands_run_in_their_order(folder: Path, environ: dict[str, str]) -> None:
    pytest.importorskip("llguidance", reason="needs the extra: pip install .[json]")
    ran = 0
    for shown in commands():
        piped, _, command = shown.command.rpartition("| ")
        if shown.page != PAGE or not command.startswith("llm "):
            continue
        name, *words = shlex.split(command)
        if words[0] == "install":
            continue
        typed = (folder / piped.split()[1]).read_text() if piped else ""
        done = run(["-m", name, *words], folder, environ, typed)
        if "note.wav" in words:  # longer than the demo model hears
            assert "at most 3 s at once" in done.stderr
            continue
        assert done.returncode == 0, done.stderr
        assert not shown.printed or done.stdout == shown.printed
        ran += 1
    assert ran > 6


def test_the_python_runs(folder: Path, environ: dict[str, str]) -> None:
    _, code = blocks(PAGE, "py")
    done = run(["-c", code], folder, environ)
    assert done.stdout.splitlines() == PRINTED, done.stderr
