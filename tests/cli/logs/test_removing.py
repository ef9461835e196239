"""`gemma4 logs rm`: what cannot be removed keeps nothing else on the disk."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from scripted import Lines
from typer.testing import CliRunner, Result

from mlx_gemma4.cli.app import app
from mlx_gemma4.cli.chat.interactive import converse
from mlx_gemma4.kept.entry import About, write


def rm(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["logs", "rm", *arguments])


def said(result: Result) -> str:
    return " ".join(result.stderr.split())


@pytest.fixture
def read(store: Path) -> dict[str | None, Path]:
    """What is kept for conversations 1 and 2, and for none."""
    folder = store.parent / "prompts"
    folder.mkdir(parents=True)
    found: dict[str | None, Path] = {}
    for of in ("1", "2", None):
        about, arrays = About("a model", of, [], []), {"x": np.zeros((1, 1, 1, 1), "f")}
        name = write(folder / "new", about, [5, 6], {"x": "F32"}, arrays)
        found[of] = (folder / "new").rename(folder / name)
    return found


def left(read: dict[str | None, Path]) -> list[str | None]:
    return [of for of, file in read.items() if file.exists()]


@pytest.mark.parametrize(
    ("words", "stays"),
    [
        (["--all"], []),
        (["1"], ["2", None]),
        (["1", "work"], ["2", None]),
        (["work"], ["1", "2", None]),
    ],
)
def test_a_damaged_store(
    words: list[str],
    stays: list[str | None],
    store: Path,
    read: dict[str | None, Path],
) -> None:
    store.write_text("damaged" * 100)
    if words != ["work"]:
        result = rm(*words)
        assert result.exit_code == 2 and "add --yes" in said(result)
        assert len(left(read)) == 3
    result = rm(*words, "--yes")
    assert result.exit_code == 5 and left(read) == stays
    assert ("Removed what was read of" in said(result)) == (len(stays) < 3)
    assert f"{store} is damaged" in said(result)
    assert "delete the file to remove them" in said(result)
    assert rm("--all", "--yes").exit_code == 5 and not left(read)
    assert "Removed" not in said(rm("--all", "--yes"))


def test_one_that_is_damaged_within(
    kept, store: Path, read: dict[str | None, Path]
) -> None:
    converse(kept, Lines("Hi"))
    with closing(sqlite3.connect(store)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = db.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'message'"
        ).fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    with store.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    result = rm("1", "--yes")
    assert result.exit_code == 5 and left(read) == ["2", None]
    assert "is damaged" in said(result) and "Removed 1" not in said(result)


def test_what_was_read_and_stays(kept, read: dict[str | None, Path]) -> None:
    converse(kept, Lines("Hi"))
    folder = read["1"].with_name(f"{0:064}.safetensors")
    folder.mkdir()  # root removes whatever is a file
    result = rm("1", "--yes")
    assert result.exit_code == 5 and left(read) == ["2", None]
    assert "Removed 1 conversation." in said(result)
    assert f"{folder} cannot be removed" in said(result)
    result = rm("--all", "--yes")
    assert result.exit_code == 5 and not left(read)
    assert f"{folder} cannot be removed" in said(result)
