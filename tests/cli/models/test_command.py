"""`gemma4 list`, `show`, `rm` and `default`, and the default in use."""

import errno
import os
from pathlib import Path

import pytest
from holding import Shelf
from in_process import Command

from mlx_gemma4.cli.models.listing import lines
from mlx_gemma4.convert.journal import NAME as JOURNAL
from mlx_gemma4.hub.names import candidates
from mlx_gemma4.hub.resolve import converted_folder
from mlx_gemma4.state import hold

E2B = "mlx-community/gemma-4-e2b-it-8bit"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.chdir(tmp_path)
    return Shelf.make(tmp_path, monkeypatch)


@pytest.fixture
def gemma4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(monkeypatch, capsys)


def converted(shelf: Shelf, name: str) -> Path:
    return shelf.converted(candidates(name)[0])


def test_list(shelf: Shelf, gemma4: Command) -> None:
    shelf.fetched(E2B)
    folder = converted(shelf, "e4b:qat")
    assert gemma4("default", "e2b") == 0 and gemma4.out == "e2b:8bit\n"
    assert gemma4("list") == 0 and not gemma4.err
    head, demo, e4b, e2b = gemma4.out.splitlines()
    assert head.split() == ["NAME", "SIZE", "WHERE"]
    assert demo.split()[0] == "demo" and " built in" in demo
    assert e4b.split()[0] == "e4b:qat" and e4b.endswith("converted here")
    assert e2b.split()[0] == "e2b:8bit" and e2b.endswith("Hub cache       default")
    found = gemma4.json("list")
    assert found["default"] == "e2b:8bit"
    assert [each["default"] for each in found["models"]] == [False, False, True]
    assert found["models"][1]["folder"] == str(folder)
    assert found["models"][1]["bytes"] == shelf.nbytes


def test_a_list_for_a_narrow_terminal(shelf: Shelf) -> None:
    shelf.fetched("an-organisation/a-model-with-a-long-name")
    assert len(lines(False)) == len(lines(False, 80)) == 3
    demo, below, name, facts = lines(False, 40)
    assert demo == "demo" and " MB  built in" in below
    assert name == "an-organisation/a-model-with-a-long-name"
    assert facts.startswith("  ") and facts.endswith(" MB  Hub cache")


def test_a_default_that_cannot_be_read(shelf: Shelf, gemma4: Command) -> None:
    (shelf.model.parent / "state/gemma4/default").mkdir(parents=True)
    assert gemma4("list") == 5 and "default: Is a directory." in gemma4.err


def test_all_that_can_be_had(
    shelf: Shelf, gemma4: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mlx_gemma4.cli.models.listing.memory_limit", lambda: 12 * 10**9
    )
    shelf.fetched(E2B)
    assert gemma4("list", "--all") == 0
    lines = {line.split()[0]: line for line in gemma4.out.splitlines() if line}
    assert lines["e4b:8bit"].split()[1:4] == ["8.96", "8.96", "7.97"]  # table on disk
    assert lines["e4b:qat"].split()[1:4] == ["15.9", "5.86", "7.86"]
    assert lines["e2b:8bit"].endswith("here *")
    assert lines["e4b:qat"].endswith("fits")
    assert lines["26b:4bit"].endswith("too large")
    offered = {each["name"]: each for each in gemma4.json("list", "--all")["offered"]}
    assert offered["e2b:8bit"]["here"] and not offered["26b:4bit"]["fits"]
    assert offered["e4b:qat"]["kept_bytes"] == 5_860_000_000
    assert all(e["fits"] == (e["memory_bytes"] <= 12e9) for e in offered.values())


def test_show_tells_what_is_needed_here(
    shelf: Shelf, gemma4: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = "mlx_gemma4.cli.models.showing.memory_limit"
    monkeypatch.setattr(limit, lambda: 6 * 10**9)
    assert gemma4("show", "e2b:8bit") == 0
    assert "about 4.90 GB with a conversation, of 6.00 GB\n" in gemma4.out
    assert gemma4("show", "e2b:bf16") == 0 and "7.00 GB" in gemma4.out
    assert "of 6.00 GB: too large" in gemma4.out


@pytest.mark.slow
def test_show(shelf: Shelf, gemma4: Command) -> None:
    snapshot = shelf.fetched(E2B)
    assert gemma4("show", "e2b") == 0
    rows = [line.split() for line in gemma4.out.splitlines()]
    for row in (["name", "e2b:8bit"], ["from", E2B], ["folder", str(snapshot)]):
        assert row in rows
    assert "problem" not in gemma4.out
    (snapshot / "tokenizer.json").resolve().write_text("?")
    assert gemma4("show", "e2b") == 0 and "problem" in gemma4.out
    assert gemma4("show", "demo") == 0 and "problem" not in gemma4.out
    found = gemma4.json("show", "e2b:qat")
    assert found["here"] is False and found["kept_bytes"] == 3_980_000_000
    assert gemma4("show", "31b") == 0 and "no: gemma4 pull 31b:" in gemma4.out
    assert gemma4("show", str(shelf.model)) == 0
    assert gemma4("show", "org/absent") == 3 and "not here" in gemma4.err


def test_rm(shelf: Shelf, gemma4: Command) -> None:
    snapshot, folder = shelf.fetched(E2B), converted(shelf, "e4b:qat")
    assert gemma4("rm", "e2b") == 2 and "--yes" in gemma4.err
    assert snapshot.exists()
    gemma4("default", "e4b")
    assert gemma4("rm", "e4b", "-y") == 0 and not folder.exists()
    assert "is the default" not in gemma4.out and "It was the default" in gemma4.err
    assert gemma4.json("default")["default"] is None
    nbytes = gemma4.json("list")["models"][1]["bytes"]
    assert gemma4.json("rm", E2B, "--yes") == {"removed": E2B, "bytes": nbytes}
    assert not any(shelf.cache.iterdir())


def test_rm_of_what_another_program_fetched(shelf: Shelf, gemma4: Command) -> None:
    shelf.fetched("mlx-community/gemma-4-12B-it-8bit")
    assert gemma4("list") == 0 and "12b:8bit" in gemma4.out
    assert gemma4("rm", "12b:8bit", "-y") == 0
    shelf.fetched("mlx-community/gemma-4-e4b-it-4bit")
    assert gemma4("rm", "e4b", "-y") == 0  # whichever there is
    assert not any(shelf.cache.iterdir())


def test_a_default_by_its_id(shelf: Shelf, gemma4: Command) -> None:
    """It goes by one name in all that is listed and removed."""
    shelf.fetched(E2B)
    assert gemma4("default", E2B) == 0 and gemma4.out == "e2b:8bit\n"
    assert gemma4("list") == 0 and gemma4.out.count("default") == 1
    assert gemma4("rm", E2B, "-y") == 0 and "It was the default" in gemma4.err


def test_what_rm_says_of_others(shelf: Shelf, gemma4: Command) -> None:
    shelf.fetched(E2B)
    shelf.fetched(E2B, "v2")
    assert gemma4("rm", "e2b") == 2
    assert "Other programs" in gemma4.err and "2 revisions, and all go" in gemma4.err


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("demo", 2, "built in"),
        ("e2b", 2, "e2b:8bit, e2b:qat: name one"),
        ("tiny", 2, "a folder of yours"),
        ("e2b:4bit", 3, "not here"),
        ("demmo", 3, "Did you mean demo?"),
        ("12b", 3, "12b is not here"),
    ],
)
def test_what_rm_refuses(
    shelf: Shelf, gemma4: Command, name: str, code: int, words: str
) -> None:
    kept = [shelf.fetched(E2B), converted(shelf, "e2b:qat")]
    if name == "e2b":
        kept.reverse()
    assert gemma4("rm", name, "--yes") == code
    assert words in gemma4.err or "name one of them" in gemma4.err
    assert all(folder.exists() for folder in kept)


def test_what_is_being_fetched_is_not_removed(shelf: Shelf, gemma4: Command) -> None:
    snapshot = shelf.fetched("org/begun")
    partial = snapshot.parents[1] / "blobs" / f"{'0' * 64}.gemma4.incomplete"
    with partial.open("w") as stream:
        hold(stream.fileno(), partial)
        assert gemma4("rm", "org/begun", "-y") == 1 and "another process" in gemma4.err
    assert snapshot.is_dir() and gemma4("rm", "org/begun", "-y") == 0


def test_what_lies_on_another_disk_is_removed(shelf: Shelf, gemma4: Command) -> None:
    there = {"e4b:qat": converted(shelf, "e4b:qat")}
    there["org/name"] = shelf.fetched("org/name").parents[1]
    elsewhere = shelf.model.parent / "elsewhere"
    for name, root in there.items():
        root.rename(elsewhere)
        root.symlink_to(elsewhere)
        assert gemma4("rm", name, "-y") == 0
        assert not root.is_symlink() and not elsewhere.exists()


def test_what_may_not_be_removed(
    shelf: Shelf, gemma4: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "blobs")

    snapshot = shelf.fetched(E2B)
    monkeypatch.setattr("shutil.rmtree", fail)
    assert gemma4("rm", "e2b", "-y") == 5 and snapshot.exists()
    assert "cannot be removed, or not all of it: Permission denied." in gemma4.err


def test_what_a_removal_left_is_named(shelf: Shelf, gemma4: Command) -> None:
    (converted(shelf, "e4b:qat") / "config.json").unlink()
    assert gemma4("pull", "e4b:qat", "-y") == 2
    assert "`gemma4 rm e4b:qat` removes it" in gemma4.err
    assert gemma4("rm", "e4b:qat", "-y") == 0


def test_a_conversion_under_way_is_not_removed(shelf: Shelf, gemma4: Command) -> None:
    (variant,) = candidates("31b:qat")
    work = converted_folder(variant).with_name("31b-qat.partial")
    work.mkdir(parents=True)
    with (work / JOURNAL).open("w") as journal:
        hold(journal.fileno(), work)
        assert gemma4("rm", "31b:qat", "-y") == 1 and "another process" in gemma4.err
    assert gemma4("rm", "31b:qat", "-y") == 0 and not work.exists()


def test_the_default(shelf: Shelf, gemma4: Command) -> None:
    assert gemma4("default") == 0 and "No default is kept" in gemma4.err
    assert gemma4("default", "e2b") == 3 and "`gemma4 pull e2b`" in gemma4.err
    assert gemma4("default", "tiny") == 0
    assert gemma4.out == f"{shelf.model}\n"  # it holds in any folder
    assert gemma4("default", "--unset", "demo") == 2
    assert gemma4("default", "--unset") == 0 and gemma4.json("default") == {
        "default": None
    }


@pytest.mark.slow
def test_a_default_that_is_gone(shelf: Shelf, gemma4: Command) -> None:
    shelf.fetched(E2B)
    assert gemma4("default", "e2b:8bit") == 0
    assert gemma4("rm", "e2b:8bit", "-y") == 0
    (shelf.model.parent / "state" / "gemma4" / "default").write_text("e2b:8bit\n")
    assert gemma4("chat", "Hi") == 3
    assert "The default model, e2b:8bit, is not here any more" in gemma4.err
    assert "`gemma4 pull e2b:8bit`" in gemma4.err
    assert gemma4("list") == 0 and "e2b:8bit" in gemma4.out
    assert gemma4("chat", "-m", "demo", "Hi") == 0
