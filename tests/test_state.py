"""Files that are never seen half written."""

import os
from pathlib import Path

import pytest

from mlx_gemma4.state import save_text


def test_a_file_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    for text in ("old", "new"):
        save_text(file, text)
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_two_processes_do_not_write_the_same_work_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One writes from start to end while the other has not put its own in place."""
    file, replace = tmp_path / "kept.json", os.replace

    def meanwhile(work: Path, target: Path) -> None:
        monkeypatch.setattr(os, "replace", replace)
        monkeypatch.setattr(os, "getpid", lambda: 2)
        save_text(file, "theirs")
        replace(work, target)

    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(os, "replace", meanwhile)
    save_text(file, "ours")
    assert file.read_text() == "ours"
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_put_in_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "kept.json" / "folder").mkdir(parents=True)
    with pytest.raises(OSError, match="kept.json"):
        save_text(tmp_path / "kept.json", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]
