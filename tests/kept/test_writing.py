"""Entries that wait for a slow disk, and what else may happen to it."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny

from mlx_gemma4 import Gemma4
from mlx_gemma4.decoding.prefill import Prompt, prefill
from mlx_gemma4.decoding.prefix import PrefixCache
from mlx_gemma4.decoding.prefixes import PrefixCaches
from mlx_gemma4.kept import entry, folder, store
from mlx_gemma4.kept.folder import files, read_heads
from mlx_gemma4.kept.store import KeptPrompts
from mlx_gemma4.kept.writing import Waiting, Writing

WORDS = [2, *(10 + n * n % 71 for n in range(400))]


@pytest.fixture(scope="module")
def model() -> Gemma4:
    return tiny.build("E2B")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A slow one: it writes nothing before this is set."""
    goes, write = threading.Event(), entry.write

    def late(*given: Any) -> str:
        assert goes.wait(60)
        return write(*given)

    monkeypatch.setattr(entry, "write", late)
    yield goes
    goes.set()


def read(model: Gemma4, tokens: list[int]) -> PrefixCache:
    prefix = PrefixCache(model)
    prefill(model, Prompt(tokens, (), tokens), prefix, 0, 1024)
    return prefix


def kept_tokens(folder: Path) -> list[int]:
    return sorted(len(head.tokens) for head in read_heads(folder, {}))


@pytest.mark.slow
def test_what_gives_way_is_bounded(
    model: Gemma4,
    tmp_path: Path,
    disk: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Conversations give way while nothing is written: the longest of them wait."""
    one = read(model, WORDS[:300])
    size = sum(layer.nbytes for layer in one.cache)
    monkeypatch.setattr(store, "memory_limit", lambda: 3 * size * store.WAITING)
    kept = KeptPrompts(tmp_path, "this model")
    caches = PrefixCaches(model, most=1, keeping=kept)
    lengths = [260, *range(290, 400, 10), *range(395, 285, -10)]
    for n, length in enumerate(lengths):
        keys = [2, n, *WORDS[: length - 2]]
        prefix = caches.closest(keys)
        prefill(model, Prompt(keys, (), keys), prefix, 0, 1024)
        assert kept.unwritten <= 3 * size
    assert kept.unwritten > size
    caches.keep()  # of this one the memory is not wanted
    disk.set()
    assert kept.close(60)
    found = kept_tokens(tmp_path)
    assert {260, 295, 395} < set(found) and found[1] == 295
    assert found[2:] == sorted(lengths)[-len(found[2:]) :]


def test_of_a_conversation_the_last_waits(
    model: Gemma4,
    tmp_path: Path,
    disk: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "memory_limit", lambda: 0)
    kept = KeptPrompts(tmp_path, "this model")
    kept.keep(read(model, WORDS[:30]), spare=True)  # alone it is never too much
    kept.of = "3"
    for end in (50, 60, 70):
        kept.keep(read(model, WORDS[:end]))
    disk.set()
    assert kept.close(60)
    assert kept_tokens(tmp_path) == [30, 70]


def test_what_is_given_up_leaves_nothing(
    model: Gemma4, tmp_path: Path, disk: threading.Event
) -> None:
    kept = KeptPrompts(tmp_path, "this model")
    for end in (50, 60):
        kept.keep(read(model, WORDS[:end]))
    assert not kept.close(0) and kept.unwritten
    kept.give_up()
    disk.set()
    assert kept.close(60)
    assert os.listdir(tmp_path) == [] and kept.trouble == "it was stopped"


def test_a_folder_that_was_removed_is_made_again(model: Gemma4, tmp_path: Path) -> None:
    where = tmp_path / "data" / "prompts"
    kept = KeptPrompts(where, "this model")
    for end in (50, 60):
        kept.keep(read(model, WORDS[:end]))
        assert kept.close(60) and not kept.trouble
        assert kept.recall(PrefixCache(model), WORDS)
        folder.remove_all(where)
        where.rmdir()
        assert not kept.recall(PrefixCache(model), WORDS)


def test_a_clock_that_was_set_back(
    model: Gemma4, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What seems to be of the future gives way to what was just written."""
    monkeypatch.setattr(folder, "MOST_FILES", 2)
    kept = KeptPrompts(tmp_path, "this model")
    for n in range(2):
        kept.keep(read(model, [2, n, *WORDS[:40]]))
        kept.close()
    old = files(tmp_path)
    for file in old:
        os.utime(file, (2**33, 2**33))
    kept.keep(read(model, WORDS[:70]))
    kept.close()
    left = files(tmp_path)
    assert len(left) == 2 and len(set(left) & set(old)) == 1
    assert 70 in kept_tokens(tmp_path)


def test_little_memory_is_no_reason_to_fail(
    model: Gemma4, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptPrompts(tmp_path, "this model")
    kept.keep(read(model, WORDS[:50]))
    kept.close()

    def little(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(store.contents, "put_back", little)
    assert not kept.recall(PrefixCache(model), WORDS)
    assert len(files(tmp_path)) == 1
    monkeypatch.setattr(entry, "write", little)
    kept.keep(read(model, WORDS[:60]))
    kept.close()
    assert kept.trouble == "MemoryError: "


def write_often(where: Path, of: str | None) -> None:
    model = tiny.build("E2B")
    prefix = read(model, WORDS[:90])
    for _ in range(20):
        kept = KeptPrompts(where, "this model", of=of)
        prefix.on_disk = 0
        kept.keep(prefix)
        kept.close()
        assert not kept.trouble, kept.trouble
        kept.recall(PrefixCache(model), WORDS)  # what another one just replaced


@pytest.mark.slow
@pytest.mark.parametrize("of", [None, "3"])
def test_two_that_write_the_same(model: Gemma4, tmp_path: Path, of: str | None) -> None:
    command = [sys.executable, __file__, str(tmp_path), *([of] if of else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [each.wait() for each in both] == [0, 0]
    assert [file.name[-12:] for file in tmp_path.iterdir()] == [".safetensors"]
    assert KeptPrompts(tmp_path, "this model").recall(PrefixCache(model), WORDS)


def test_what_stays_is_told_behind_all_else(model: Gemma4, tmp_path: Path) -> None:
    """Half an entry of a killed process goes too; what is no entry may be anybody's."""
    for of in ("1", "2"):
        kept = KeptPrompts(tmp_path, "this model", of=of)
        kept.keep(read(model, WORDS[:50]))
        kept.close()
    half, stays = tmp_path / ".999999999.0.part", tmp_path / f"{0:064}.safetensors"
    half.touch()
    stays.mkdir()
    with pytest.raises(OSError, match=stays.name):
        folder.remove_of(tmp_path, {"1"})
    (head,) = read_heads(tmp_path, {})
    assert head.about.of == "2" and not half.exists()
    with pytest.raises(OSError, match=stays.name):
        folder.remove_all(tmp_path)
    assert os.listdir(tmp_path) == [stays.name]


if __name__ == "__main__":
    write_often(Path(sys.argv[1]), *(sys.argv[2:] or [None]))


def test_where_no_thread_can_start_it_is_written_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    written: list[int] = []
    writing = Writing(100)
    for number in (1, 2):
        assert writing.add(Waiting(partial(written.append, number), 5, 5))
    assert written == [1, 2] and writing.wait(0)
