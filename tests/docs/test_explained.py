"""What README and docs/ explain is what there is: commands, options, sizes."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from pages import PAGES
from places import ROOT

from mlx_gemma4.cli.app import app
from mlx_gemma4.cli.chat.commands import COMMANDS
from mlx_gemma4.hub.names import models
from mlx_gemma4.reading.sizes import size

COMPLETION = {"GEMMA4_COMPLETE", "GEMMA4_WORDBREAKS"}  # set by a shell, not by users

pytestmark = pytest.mark.skipif(not PAGES, reason="no page is beside the tests")


def read(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def chat() -> Any:
    group: Any = typer.main.get_command(app)
    return group.commands["chat"]


def test_every_command_of_a_chat_is_explained() -> None:
    page = read("docs/chat.md")
    explained = set(re.findall(r"`(/[a-z]+)[ `]", page))
    assert explained == set(COMMANDS)


def test_every_option_of_a_chat_is_explained() -> None:
    page = read("docs/chat.md")
    explained = set(re.findall(r"(--[a-z-]+)", page))
    options = chat().params
    names = {name for each in options for name in (*each.opts, *each.secondary_opts)}
    long = {name for name in names if name.startswith("--")}
    assert long - {"--help"} <= explained


def test_every_variable_is_explained() -> None:
    page = read("docs/settings.md")
    names = ("mlx_gemma4", "mlx_gemma4.cli", "mlx_gemma4.convert")
    parts = [Path(str(import_module(name).__file__)).parent for name in names]
    code = "".join(f.read_text("utf-8") for part in parts for f in part.rglob("*.py"))
    used = set(re.findall(r"GEMMA4_[A-Z_]*[A-Z]", code))
    assert len(used) > 3
    assert used - COMPLETION <= set(re.findall(r"`(GEMMA4_\w+)`", page))


def rows_of(page: str) -> list[list[str]]:
    """The cells of rows that name a variant of a model."""
    rows = re.findall(r"^\|(.*`\w+:\w+`.*)\|$", read(page), re.MULTILINE)
    return [[cell.strip(" `") for cell in row.split("|")] for row in rows]


def test_sizes_are_those_of_the_program() -> None:
    told = {row[0]: row[1:5] for row in rows_of("docs/models.md")}
    assert told == {
        each.name: [
            *(in_gb(each.fetched), in_gb(each.kept), in_gb(each.needs)),
            in_gb(each.kept - each.table) if each.table else "",
        ]
        for model in models().values()
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
        assert best.fits(int(gigabytes * 2**30 * share))
        assert name == best.name
        assert [fetched, kept] == [size(best.fetched), size(best.kept)]
