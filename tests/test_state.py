"""Files that are never seen half written."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlx_gemma4.state import PRIVATE, save_text


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


def test_the_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, replace = os.fsync, os.replace

    def seen(descriptor: int) -> None:
        steps.append("sync")
        sync(descriptor)

    def put(work: Path, file: Path) -> None:
        steps.append("replace")
        replace(work, file)

    monkeypatch.setattr(os, "fsync", seen)
    monkeypatch.setattr(os, "replace", put)
    save_text(tmp_path / "kept.json", "text")
    assert steps == ["sync", "replace", "sync"]


def test_links_and_rights_stay(tmp_path: Path) -> None:
    file, link = tmp_path / "kept.json", tmp_path / "link.json"
    file.write_text("old")
    file.chmod(0o640)
    link.symlink_to("kept.json")
    save_text(link, "new")
    assert link.is_symlink() and file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == 0o640
    save_text(file, "newer", PRIVATE)
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_longest_name_that_a_folder_takes(tmp_path: Path) -> None:
    file = tmp_path / ("é" * 125 + ".json")
    save_text(file, "text")
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    left = tmp_path / f".kept.json.{process.pid}.part"
    running = tmp_path / f".kept.json.{os.getppid()}.part"
    others = tmp_path / f".other.json.{process.pid}.part"
    for path in (left, running, others):
        path.write_text("half")
    save_text(file, "text")
    assert sorted(tmp_path.iterdir()) == sorted([file, running, others])


WRITE = """
import sys
from pathlib import Path
from mlx_gemma4.state import save_text
text = sys.argv[2] * 2_000_000
print("ready", flush=True)
while True:
    save_text(Path(sys.argv[1]), text)
"""


@pytest.mark.slow
def test_a_kill_leaves_a_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    save_text(file, "old " * 2_000_000)
    for number in range(20):
        command = [sys.executable, "-c", WRITE, str(file), "new "]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline()
        time.sleep(0.002 * number)
        process.kill()
        process.communicate()
        assert file.read_text() in ("old " * 2_000_000, "new " * 2_000_000)
    save_text(file, "last")
    assert list(tmp_path.iterdir()) == [file]
