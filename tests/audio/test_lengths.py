"""Recordings cut short: what their headers promise, and what is there."""

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sounds import FORMATS, needs_pyav, recording, write

from mlx_gemma4.audio.files import RATE, read_audio
from mlx_gemma4.audio.lengths import joined, promised
from mlx_gemma4.errors import MediaError

HEADERS = {
    "wav": "WAV",
    "rf64": "RF64",
    "aiff": "AIFF",
    "au": "AU",
    "w64": "W64",
    "caf": "CAF",
}


def written(path: Path, frames: int, **options: Any) -> bytes:
    soundfile.write(path, recording(frames), RATE, **options)
    return path.read_bytes()


@pytest.mark.parametrize("kind", HEADERS)
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_what_was_cut_off_is_told(tmp_path, kind, subtype):
    path = tmp_path / f"talk.{kind}"
    data = written(path, 2 * RATE, format=HEADERS[kind], subtype=subtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = read_audio(path)
    path.write_bytes(data[: len(data) // 2])
    told = r"talk\.\w+ is damaged: only (1\.0|0\.9) of 2\.0 s could be read\."
    with pytest.warns(UserWarning, match=told):
        half = read_audio(path)
    assert np.array_equal(half, whole[: len(half)])
    with pytest.warns(UserWarning, match=r"The recording is damaged: only \d\.\d of 2"):
        read_audio(data[: len(data) // 2])


@pytest.mark.parametrize("kind", HEADERS)
def test_files_behind_each_other_are_all_heard(tmp_path, kind):
    """Whatever stands between them: the titles of the first, a byte to make it even."""
    path = tmp_path / f"a.{kind}"
    one, two = (
        written(path, frames, format=HEADERS[kind], subtype="PCM_S8" if odd else None)
        for frames, odd in ((RATE, False), (RATE // 2 + 1, kind in ("aiff", "caf")))
    )
    apart = [read_audio(each) for each in (one, two, one)]
    titles = b"" if kind == "w64" else struct.pack("<4sI", b"LIST", 20) + bytes(20)
    path.write_bytes(one + titles + two + one)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_audio(path), np.concatenate(apart))
        assert len(read_audio(one + titles)) == RATE
    path.write_bytes(one + two + one[:-RATE])
    with pytest.warns(UserWarning, match=r"only 2\.0 of 2\.5 s could be read"):
        read_audio(path)


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "ULAW", "GSM610"])
def test_compressed_kinds_of_wav(tmp_path, subtype):
    data = written(tmp_path / "a.wav", 2 * RATE, subtype=subtype)
    with pytest.warns(UserWarning, match=r"only 1\.\d of 2\.[01] s could be read"):
        read_audio(data[: len(data) * 6 // 10])


def test_a_wav_of_the_other_byte_order(tmp_path):
    data = written(tmp_path / "a.wav", 2 * RATE, endian="BIG")
    assert data[:4] == b"RIFX"
    with pytest.warns(UserWarning, match=r"only 1\.0 of 2\.0 s could be read"):
        read_audio(data[: len(data) // 2])


def test_one_missing_sample_is_told(tmp_path):
    data = written(tmp_path / "a.wav", 600)
    with pytest.warns(UserWarning, match=r"only 0\.0374 of 0\.0375 s could be read"):
        assert len(read_audio(data[:-2])) == 599


def test_what_follows_the_sound_is_no_sound(tmp_path):
    """An odd number of bytes, a byte to even it, and a chunk with a title."""
    data = bytearray(written(tmp_path / "a.wav", 601, subtype="PCM_U8"))
    title = b"LIST" + struct.pack("<I", 4) + b"INFO"
    odd = b"note" + struct.pack("<I", 3) + b"abc\0"
    whole = bytes(data[: 44 + 601]) + b"\0" + title
    assert promised(whole, 601) == 601
    assert promised(title_first(whole, title), 601) == 601
    assert promised(title_first(whole, title)[: 44 + 12 + 300], 300) == 601
    assert promised(title_first(whole, odd)[: 44 + 12 + 300], 300) == 601


def title_first(whole: bytes, title: bytes) -> bytes:
    return whole[:36] + title + whole[36 : 44 + 601]


@pytest.mark.parametrize("size", [0, 0x7F00_0000, 0x7FFF_F000, 0xFFFF_FFFF])
def test_a_length_that_nobody_knew_promises_nothing(tmp_path, size):
    data = bytearray(written(tmp_path / "a.wav", 600))
    data[40:44] = struct.pack("<I", size)
    assert promised(bytes(data), 600) == 600


@pytest.mark.parametrize("kind", HEADERS)
def test_any_beginning_of_a_file_promises_no_less_than_is_there(tmp_path, kind):
    data = written(tmp_path / f"a.{kind}", 200, format=HEADERS[kind])
    for end in range(len(data)):
        assert promised(data[:end], 7) >= 7
    for rest in (b"\xff" * 200, bytes(200)):
        (tmp_path / "odd").write_bytes(data[:4] + rest)
        assert promised(tmp_path / "odd", 7) == 7


def test_a_file_cut_short_gives_what_is_there(tmp_path):
    path = write(tmp_path / "a.wav", recording(RATE), RATE)
    with pytest.warns(UserWarning, match="recording is damaged: only 0.5 of 1.0 s"):
        half = read_audio(path.read_bytes()[: 44 + RATE])
    assert len(half) == RATE // 2
    assert np.array_equal(half, read_audio(path)[: RATE // 2])


@pytest.mark.parametrize("kind", ["flac", "mp3"])
def test_damage_is_reported_with_what_could_be_read(tmp_path, kind):
    path = write(tmp_path / f"a.{kind}", recording(10 * RATE), RATE)
    whole, data = read_audio(path), path.read_bytes()
    with pytest.warns(UserWarning, match=r"damaged: only \d\.\d of 10\.0 s"):
        found = read_audio(data[: len(data) // 2])
    assert 3 * RATE < len(found) < 6 * RATE
    assert np.array_equal(found, whole[: len(found)])


@pytest.mark.parametrize("kind", FORMATS)
def test_any_truncation_is_an_error_or_a_beginning(tmp_path, kind):
    path = write(tmp_path / f"a.{kind}", recording(3 * RATE), RATE)
    data = path.read_bytes()
    whole = len(read_audio(path))
    refused = 0
    for share in (0.9, 0.5, 0.1, 0.02, 0.003):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                found = read_audio(data[: int(len(data) * share)])
            except MediaError as error:
                assert "cannot be decoded" in str(error)
                refused += 1
                continue
        assert 0 < len(found) <= whole and np.isfinite(found).all()
    assert refused < 5


def through_pyav(path: Path, format: str) -> bytes:
    """4 s of sound as aac."""
    import av

    with av.open(path, "w", format=format) as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            recording(4 * RATE)[None], format="fltp", layout="mono"
        )
        frame.sample_rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return path.read_bytes()


@needs_pyav
def test_a_matroska_file_cut_short_is_told(tmp_path):
    data = through_pyav(tmp_path / "a.mka", "matroska")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_audio(data)) / RATE == pytest.approx(4, abs=0.2)
    with pytest.warns(UserWarning, match=r"only [12]\.\d of 4\.\d s could be read"):
        read_audio(data[: len(data) // 2])


@needs_pyav
def test_an_m4a_behind_another_is_told(tmp_path):
    data = through_pyav(tmp_path / "a.m4a", "ipod")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_audio(data + bytes(40))) / RATE == pytest.approx(4, abs=0.2)
    with pytest.warns(UserWarning, match="has another file behind it: only the first"):
        read_audio(data + data)


def test_a_chunk_larger_than_any_file_is_no_reason_to_stop(tmp_path):
    path = tmp_path / "a.w64"
    data = bytearray(written(path, RATE, format="W64"))
    data[56:64] = struct.pack("<Q", 1 << 59)  # of the chunk with the format
    path.write_bytes(data)
    for source in (path, bytes(data)):
        assert promised(source, RATE) == RATE and list(joined(source)) == [source]
