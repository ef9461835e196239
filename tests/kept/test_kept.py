"""Prompts that were read, kept on the disk: what comes back is what was there."""

import os
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import tiny

from mlx_gemma4 import Gemma4
from mlx_gemma4.cache import packed
from mlx_gemma4.decoding.prefill import Prompt, prefill
from mlx_gemma4.decoding.prefix import PrefixCache
from mlx_gemma4.decoding.prefixes import PrefixCaches
from mlx_gemma4.kept import folder as module
from mlx_gemma4.kept import store
from mlx_gemma4.kept.folder import files, remove_all, remove_of, total
from mlx_gemma4.kept.store import KeptPrompts

WORDS = [2, *(10 + n * n % 71 for n in range(400))]


@pytest.fixture(scope="module")
def model() -> Gemma4:
    return tiny.build("E2B")


def kept_in(folder: Path, **options: Any) -> KeptPrompts:
    return KeptPrompts(folder, "this model", **options)


def read(prefix: PrefixCache, keys: list[int], tokens: list[int] | None = None) -> Any:
    """The logits behind a prompt, with what the prefix holds of it not read again."""
    tokens = tokens or keys
    start = prefix.reuse(keys)
    logits, _ = prefill(prefix.model, Prompt(tokens, (), keys), prefix, start, 1024)
    prefix.pin()
    return np.array(logits)


def keep(folder: Path, prefix: PrefixCache, of: str | None = None) -> Path:
    before = set(files(folder))
    kept = kept_in(folder, of=of)
    kept.keep(prefix)
    kept.close()
    assert not kept.trouble
    (file,) = set(files(folder)) - before
    return file


@pytest.mark.parametrize("variant", ["E2B", "26B-A4B"])
def test_what_follows_is_the_same_to_the_bit(variant: str, tmp_path: Path) -> None:
    """Around the window of 8, and around window and slack."""
    model = tiny.build(variant)
    for length in (1, 8, 135, 300):
        compare(model, tmp_path, WORDS[:length], None)


@pytest.mark.slow
def test_the_same_of_packed_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "START", 100)
    model = tiny.build("E2B")
    for length in (99, 100, 101, 300):
        compare(model, tmp_path, WORDS[:length], 8)


def compare(model: Gemma4, folder: Path, words: list[int], kv_bits: int | None) -> None:
    prefix, other = (PrefixCache(model, kv_bits=kv_bits) for _ in range(2))
    read(prefix, words)
    keep(folder, prefix)
    keys = [*words, 5, 6, 7]
    assert kept_in(folder).recall(other, keys)
    assert other.tokens == other.keys == words
    assert other.reuse(keys) == len(words)
    assert np.array_equal(read(other, keys), read(prefix, keys))
    if kv_bits:
        assert not kept_in(folder).recall(PrefixCache(model), keys)
    remove_all(folder)


def test_it_goes_back_as_far(model: Gemma4, tmp_path: Path) -> None:
    """Near the end by rollback, farther to the pin, and behind a thought that is left
    out of the next prompt."""
    prefix = PrefixCache(model)
    read(prefix, WORDS[:200])
    thought = [10 + n % 70 for n in range(180)]
    model(mx.array([thought]), cache=prefix.cache)
    prefix.extend(thought)
    keep(tmp_path, prefix)
    fresh = PrefixCache(model)
    for end, reached in ((370, 370), (240, 200), (200, 200), (120, 120)):
        keys = [*prefix.tokens[:end], 9, 8]
        other = PrefixCache(model)
        assert kept_in(tmp_path).recall(other, keys)
        assert other.reuse(keys) == reached
        fresh.clear()
        assert np.allclose(read(other, keys), read(fresh, keys), atol=1e-4)


def test_media_are_told_apart(model: Gemma4, tmp_path: Path) -> None:
    prefix = PrefixCache(model)
    keys = [*WORDS[:2], *[-(2**64)] * 5, *[-7] * 4, WORDS[11]]
    read(prefix, keys, WORDS[: len(keys)])
    keep(tmp_path, prefix)
    for changed, reached in ((11, 11), (7, 7), (2, 2)):
        other = PrefixCache(model)
        asked = [*keys[:changed], -9, 4, 4]
        assert kept_in(tmp_path).recall(other, asked)
        assert other.keys == keys
        assert other.reuse(asked) == reached


def test_one_that_cannot_be_returned_to_is_read_once_more(
    model: Gemma4, tmp_path: Path
) -> None:
    prefix, kept = PrefixCache(model), kept_in(tmp_path)
    read(prefix, WORDS)
    keep(tmp_path, prefix)
    for question, known in ((11, False), (12, True)):
        keys, other = [*WORDS[:265], *[question] * 200], PrefixCache(model)
        assert kept.recall(other, keys) == known
        assert other.shared == (0 if known else 265)
        read(other, keys)
        assert [pin.offset for pin in other.pins] == [265, 465]
        other.on_disk = 0
        keep(tmp_path, other)


def test_only_what_is_new_is_written(model: Gemma4, tmp_path: Path) -> None:
    prefix, kept = PrefixCache(model), kept_in(tmp_path)
    read(prefix, WORDS[:50])
    kept.keep(prefix)
    kept.keep(prefix)
    assert prefix.on_disk == 50
    read(prefix, [*WORDS[:50], 8])
    kept.keep(prefix, least=2)
    kept.close()
    assert len(files(tmp_path)) == 1
    other = PrefixCache(model)
    kept_in(tmp_path).recall(other, WORDS)
    assert other.on_disk == 50
    other.reuse([*WORDS[:40], 3])
    assert other.on_disk == 40


def test_what_goes_on_does_not_change_what_is_written(
    model: Gemma4, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The buffers are written from while the next turn appends to them."""
    prefix, other, fresh = PrefixCache(model), PrefixCache(model), PrefixCache(model)
    read(prefix, WORDS[:100])
    write, kept = store.entry.write, kept_in(tmp_path)
    done = mx.array(0)

    def late(*given: Any) -> str:
        while done.size == 1:
            time.sleep(0.01)
        return write(*given)

    monkeypatch.setattr(store.entry, "write", late)
    kept.keep(prefix)
    read(prefix, [*WORDS[:60], *[33] * 70])
    done = mx.zeros(2)
    kept.close()
    assert kept_in(tmp_path).recall(other, WORDS)
    assert np.array_equal(read(other, WORDS), read(fresh, WORDS))


def test_a_conversation_has_one_entry(model: Gemma4, tmp_path: Path) -> None:
    prefix = PrefixCache(model)
    for end in (20, 40, 60):
        read(prefix, WORDS[:end])
        keep(tmp_path, prefix, of="3")
    read(prefix, [*WORDS[:50], 5])
    keep(tmp_path, prefix)
    read(prefix, [*WORDS[:50], 6])
    last = keep(tmp_path, prefix, of="4")
    assert len(files(tmp_path)) == 3
    remove_of(tmp_path, {"3", "5"})
    assert len(files(tmp_path)) == 2 and last.exists()
    remove_all(tmp_path)
    assert os.listdir(tmp_path) == []


def test_those_not_used_for_longest_give_way(
    model: Gemma4, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    for n in range(4):
        prefix = PrefixCache(model)
        read(prefix, [2, n, *WORDS[:40]])
        made.append(keep(tmp_path, prefix))
        os.utime(made[-1], (n, n))
    assert kept_in(tmp_path).recall(PrefixCache(model), [2, 0, *WORDS])
    kept = kept_in(tmp_path, most_bytes=total(tmp_path))
    read(prefix := PrefixCache(model), [2, 9, *WORDS[:40]])
    kept.keep(prefix)
    kept.close()
    assert [file.exists() for file in made] == [True, False, True, True]
    monkeypatch.setattr(module, "MOST_FILES", 2)
    module.make_room(tmp_path, 10**9)
    assert len(files(tmp_path)) == 2 and made[0].exists()


def test_what_a_killed_process_left_is_removed(model: Gemma4, tmp_path: Path) -> None:
    left, ours = tmp_path / ".999999999.0.part", tmp_path / f".{os.getpid()}.9999.part"
    left.write_bytes(b"half")
    ours.write_bytes(b"half")
    read(prefix := PrefixCache(model), WORDS[:9])
    keep(tmp_path, prefix)
    assert not left.exists() and ours.exists()
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files(tmp_path))


def test_nobody_else_looks_into_its_folders(model: Gemma4, tmp_path: Path) -> None:
    read(prefix := PrefixCache(model), WORDS[:9])
    folder = tmp_path / "data" / "prompts"
    keep(folder, prefix)
    folder.chmod(0o755)
    prefix.on_disk = 0
    kept = kept_in(folder)
    kept.keep(prefix)
    kept.close()
    assert [each.stat().st_mode & 0o777 for each in (folder, folder.parent)] == [
        0o700,
        0o700,
    ]


def test_what_is_not_worth_its_bytes_is_not_written(
    model: Gemma4, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(prefix := PrefixCache(model), WORDS[:60])
    for most, per_token, spare in (
        (10**3, 2**21, 0),
        (10**9, 9, 0),
        (10**9, 2**21, 2**62),
    ):
        monkeypatch.setattr(store, "PER_TOKEN", per_token)
        monkeypatch.setattr(store, "SPARE", spare)
        prefix.on_disk = 0
        kept = kept_in(tmp_path, most_bytes=most)
        kept.keep(prefix)
        kept.close()
        assert not files(tmp_path)
        assert bool(kept.trouble) == bool(spare)


def test_a_disk_that_is_full_or_read_only_is_told(
    model: Gemma4, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(prefix := PrefixCache(model), WORDS[:60])

    def full(*_: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.entry, "write", full)
    kept = kept_in(tmp_path)
    kept.keep(prefix)
    kept.close()
    assert kept.trouble == "No space left on device"
    (tmp_path / "file").touch()
    assert not kept_in(tmp_path / "file").recall(PrefixCache(model), WORDS)
    prefix.on_disk = 0
    kept = kept_in(tmp_path / "file")
    kept.keep(prefix)
    kept.close()
    assert kept.trouble


def test_conversations_that_gave_way_come_back(model: Gemma4, tmp_path: Path) -> None:
    kept = kept_in(tmp_path)
    caches = PrefixCaches(model, most=1, keeping=kept)
    first, second = [2, 30, *WORDS[:300]], [2, 40, *WORDS[:300]]
    read(caches.closest(first), first)
    read(caches.closest(second), second)
    caches.keep()
    kept.close()
    assert len(files(tmp_path)) == 2
    again = PrefixCaches(model, keeping=kept_in(tmp_path))
    for keys in (first, second):
        asked = [*keys, 5, 5]
        assert again.closest(asked).reuse(asked) == len(keys)
