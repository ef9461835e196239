"""What README and docs/ say beside commands: Python, links, the table of models."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from pages import PAGES, blocks, commands
from places import ROOT, SHAPES

from mlx_gemma4.cli.app import app
from mlx_gemma4.cli.chat.commands import COMMANDS
from mlx_gemma4.hub.names import models
from mlx_gemma4.reading.sizes import size

PYTHON = ROOT / "docs" / "python.md"
PARTS = ("mlx_gemma4", "assets", "cli", "convert")
COMPLETION = {"GEMMA4_COMPLETE", "GEMMA4_WORDBREAKS"}  # set by a shell, not by users
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


@in_a_clone
def test_every_command_of_a_chat_is_explained() -> None:
    page = (ROOT / "docs" / "chat.md").read_text("utf-8")
    explained = set(re.findall(r"`(/[a-z]+)[ `]", page))
    if "/continue" not in COMMANDS:
        pytest.skip("to come: delete these two lines where /continue is there")
    assert explained == set(COMMANDS)


@in_a_clone
def test_every_option_of_a_chat_is_explained() -> None:
    page = (ROOT / "docs" / "chat.md").read_text("utf-8")
    explained = set(re.findall(r"(--[a-z-]+)", page))
    options = [p for p in chat().params if p.name != "prompt"]
    assert {
        o for p in options for o in (*p.opts, *p.secondary_opts) if o[:2] == "--"
    } <= (explained | {"--help"})


@in_a_clone
def test_every_variable_is_explained() -> None:
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    parts = [ROOT / "cli", ROOT / "mlx_gemma4", ROOT / "convert"]
    code = "".join(f.read_text("utf-8") for part in parts for f in part.rglob("*.py"))
    read = set(re.findall(r"GEMMA4_[A-Z_]*[A-Z]", code))
    assert len(read) > 3
    assert read - COMPLETION <= set(re.findall(r"`(GEMMA4_\w+)`", page))


def chat() -> Any:
    group: Any = typer.main.get_command(app)
    return group.commands["chat"]


def rows_of(page: str) -> list[list[str]]:
    """The cells of rows that name a variant of a model."""
    text = (ROOT / page).read_text("utf-8")
    rows = re.findall(r"^\|(.*`\w+:\w+`.*)\|$", text, re.MULTILINE)
    return [[cell.strip(" `") for cell in row.split("|")] for row in rows]


def test_sizes_are_those_of_the_program() -> None:
    usable = [model for model in models().values() if model.instead is None]
    told = {row[0]: row[1:4] for row in rows_of("docs/models.md")}
    assert told == {
        each.name: [in_gb(each.fetched), in_gb(each.kept), in_gb(each.needs)]
        for model in usable
        for each in model.variants
    }


def in_gb(count: int) -> str:
    return size(count).removesuffix(" GB")


def test_what_fits_is_what_the_program_takes() -> None:
    """macOS gives a model two thirds of its memory, above 36 GB three quarters."""
    rows = rows_of("README.md")
    assert len(rows) > 4
    for has, _, name, fetched, kept, command in rows:
        gigabytes = int(has.removesuffix(" GB"))
        share = 2 / 3 if gigabytes <= 36 else 3 / 4
        model = models()[command.removeprefix("gemma4 pull ")]
        best = model.best_in(int(gigabytes * 2**30 * share))
        assert best.needs <= gigabytes * 2**30 * share
        assert name == best.name
        assert [fetched, kept] == [size(best.fetched), size(best.kept)]
