"""What media are read from: files, pipes, and what is refused before decoding."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sounds import recording, write

from mlx_gemma4.audio.files import RATE, read_audio
from mlx_gemma4.errors import MediaError
from mlx_gemma4.reading import sources
from mlx_gemma4.reading.sources import open_source, stated_seconds


def through_pipe(folder: Path, data: bytes) -> Path:
    """What a shell's <(command) gives."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=_write, args=(pipe, data), daemon=True)
    writer.start()
    return pipe


def _write(pipe: Path, data: bytes) -> None:
    with pipe.open("wb") as opened:
        opened.write(data)


def test_a_recording_from_a_pipe(tmp_path: Path) -> None:
    data = write(tmp_path / "a.flac", recording(RATE), RATE).read_bytes()
    found = read_audio(through_pipe(tmp_path, data))
    assert (found == read_audio(data)).all() and len(found) == RATE


def test_a_pipe_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST", 1000)
    with pytest.raises(MediaError, match="pipe cannot be read: it does not end"):
        open_source(through_pipe(tmp_path, bytes(1001)), "recording")


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    assert open_source("~/a.wav", "recording") == (tmp_path / "a.wav", "~/a.wav")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda folder: "https://example.org/a",
            "a is a URL: download the video first",
        ),
        (lambda folder: folder / "gone", "There is no video .*gone: check the path"),
        (lambda folder: folder, "is a folder: name the videos in it"),
        (lambda folder: "a\0b", "There is no video"),
        (lambda folder: "x" * 5000, "There is no video x{200}…: check"),
        (lambda folder: b"", "The video is empty: get the file again"),
        (lambda folder: through_pipe(folder, b""), "pipe is empty"),
    ],
)
def test_what_is_refused(
    make: Callable[[Path], Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(MediaError, match=told):
        open_source(make(tmp_path), "video")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (np.zeros(100, np.float32), r"not a ndarray"),
        ((np.zeros(100, np.float32),), r"or \(samples, rate\), not a tuple"),
        ({"array": [0.0]}, "not a dict"),
        (None, "not a NoneType"),
    ],
)
def test_what_is_no_recording(source: Any, told: str) -> None:
    with pytest.raises(MediaError, match=told):
        read_audio(source)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF")
    path.chmod(0)
    with pytest.raises(MediaError, match="cannot be read: Permission denied"):
        read_audio(path)


@pytest.mark.parametrize(
    ("tags", "seconds"),
    [
        ({"DURATION": "01:02:03.500000000"}, 3723.5),
        ({"DURATION": "long"}, 0),
        ({"DURATION": "1:2"}, 0),
        ({"DURATION": "inf:00:00"}, 0),
        ({}, 0),
    ],
)
def test_when_a_stream_ends(tags, seconds):
    assert stated_seconds(tags) == seconds


@pytest.mark.parametrize(
    ("stored", "named"),
    [
        ("Screenshot at 3.04\u202fPM.png", "Screenshot at 3.04 PM.png"),
        ("a\u00a0b.png", "a b.png"),
        ("Zu\u0308rich.png", "Z\u00fcrich.png"),
        ("Z\u00fcrich.png", "Zu\u0308rich.png"),
        ("Ann\u2019s.png", "Ann's.png"),
    ],
)
def test_names_that_look_the_same(tmp_path: Path, stored: str, named: str) -> None:
    (tmp_path / stored).write_bytes(b"picture")
    if (tmp_path / named).exists():
        pytest.skip("This file system takes them for the same name itself.")
    assert open_source(tmp_path / named, "picture")[0] == tmp_path / stored
    (tmp_path / named).write_bytes(b"another")  # what is there comes first
    assert open_source(tmp_path / named, "picture")[0] == tmp_path / named


def test_two_names_that_look_the_same(tmp_path: Path) -> None:
    for blank in "\u202f\u00a0":
        (tmp_path / f"a{blank}b.png").write_bytes(b"picture")
    with pytest.raises(MediaError, match="There is no picture .*a b.png"):
        open_source(tmp_path / "a b.png", "picture")


@pytest.mark.parametrize("kind", ["picture", "recording", "video"])
def test_what_stands_in_a_mediums_place(kind: str) -> None:
    lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    for data, told in (
        (lfs, f"is a Git LFS pointer, not the {kind} itself: run git lfs pull"),
        (b"<!DOCTYPE html>\n<html>", f"is a web page, not a {kind}"),
        (b"\n <HTML><body>", f"is a web page, not a {kind}"),
    ):
        with pytest.raises(MediaError, match=told):
            open_source(data, kind)
