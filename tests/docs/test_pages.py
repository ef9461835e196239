"""What README and docs/ show beside commands: Python, links, the end of make demo."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import PAGES, blocks, commands
from places import ROOT, SHAPES

PYTHON = ROOT / "docs" / "python.md"
PARTS = ("mlx_gemma4", "assets", "cli", "convert")
WHERE = """
import mlx_gemma4.assets, mlx_gemma4.cli, mlx_gemma4.convert
for package in mlx_gemma4, mlx_gemma4.assets, mlx_gemma4.cli, mlx_gemma4.convert:
    print(package.__file__)
"""

pytestmark = pytest.mark.skipif(not PAGES, reason="no page is beside the tests")
in_a_clone = pytest.mark.skipif(
    not all((ROOT / part).is_dir() for part in PARTS),
    reason="the code is not beside the tests",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda p: p.name
)
@pytest.mark.filterwarnings("ignore")  # of transformers, which mlx-lm imports
def test_the_python_of_a_page_runs(
    page: Path, tmp_path: Path, environ: dict[str, str]
) -> None:
    (tmp_path / "assets").symlink_to(SHAPES.parent)
    code = "\n".join(blocks(page, "python"))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The capital of France is Paris.\n")


@pytest.mark.slow
@in_a_clone
def test_the_python_example_runs_in_a_clone(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    """With nothing installed, or something else: all that runs is the clone's."""
    for part in PARTS:
        shutil.copytree(ROOT / part, tmp_path / part)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    code, *_ = blocks(PYTHON, "python")
    done = subprocess.run(
        [sys.executable, "-c", code + WHERE],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answer, *places = done.stdout.splitlines()
    assert answer == "The capital of France is Paris."
    assert places == [str(tmp_path / part / "__init__.py") for part in PARTS]


@in_a_clone
def test_beside_a_copy_lies_another_project(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    """Whose folders are none of ours, whatever they are called."""
    shutil.copytree(ROOT / "mlx_gemma4", tmp_path / "mlx_gemma4")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\n')
    code = "import mlx_gemma4; print(*mlx_gemma4.__path__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{tmp_path / 'mlx_gemma4'}\n"


@in_a_clone
def test_make_demo_prints_what_is_shown() -> None:
    rules = (ROOT / "Makefile").read_text("utf-8").replace("$(BIN)", ".venv/bin")
    recipe = re.findall(r"^demo:.*\n((?:\t.*\n)+)", rules, re.MULTILINE)[0]
    command, *echoes = [line.strip() for line in recipe.splitlines()]
    (shown,) = [shown for shown in commands() if shown.command == "make demo"]
    said = [line.removeprefix('@echo "').removesuffix('"') for line in echoes]
    answer = "The capital of France is Paris."
    assert shown.printed.splitlines() == [command, answer, *said]


@in_a_clone
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text("utf-8")), target


def anchors(text: str) -> set[str]:
    """Of headings, as they are made from their words, and those that are set."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    made = {
        re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings
    }
    return made | set(re.findall(r'<a name="([^"]+)">', text))
