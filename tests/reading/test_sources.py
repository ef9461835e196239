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
