"""Raw AAC: what is lost of it keeps its time."""

import io

import numpy as np
import pytest
from sounds import needs_pyav, tone

from mlx_gemma4.audio.adts import pieces_of
from mlx_gemma4.audio.files import RATE, read_recording
from mlx_gemma4.audio.mixing import Recording

pytestmark = needs_pyav
TITLE = b"ID3\4\0\0\0\0\1\0" + bytes(128)


def aac(sound: np.ndarray, rate: int = RATE) -> bytes:
    import av

    written = io.BytesIO()
    with av.open(written, "w", format="adts") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        for at in range(0, len(sound), 1024):
            part = sound[None, at : at + 1024]
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return written.getvalue()


def beeps(rate: int = RATE) -> np.ndarray:
    """8 s, with a tone of half a second from the second 1 and from the second 6 on,
    and noise between them."""
    sound = 0.1 * np.random.default_rng(0).standard_normal(8 * rate)
    for second in (1, 6):
        sound[second * rate : second * rate + rate // 2] = tone(0.5, rate)
    return sound.astype(np.float32)


def second_tone(found: Recording) -> float:
    """When a tone begins behind the middle."""
    window = RATE // 20
    wave = np.exp(2j * np.pi * 440 / RATE * np.arange(window))
    whole = found.samples[: len(found.samples) // window * window]
    loud = np.abs(whole.reshape(-1, window) @ wave) > 0.2 * window
    return float(np.flatnonzero(loud[3 * 20 :])[0] / 20 + 3)


@pytest.mark.parametrize("size", [300, 3000, 20_000])
@pytest.mark.parametrize("kind", ["noise", "nothing", "header"])
def test_what_is_behind_a_bad_spot_is_where_it_was(size: int, kind: str):
    data = bytearray(aac(beeps()))
    at = len(data) * 2 // 5
    bad = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    data[at : at + size] = bad if kind == "noise" else bytes(size)
    if kind == "header":  # one that states a frame of the whole spot and more
        data[at : at + 7] = data[:3] + b"\x43\xff\xff\xfc"
    found = read_recording(bytes(data))
    # From the bytes that are lost, so about.
    assert second_tone(found) == pytest.approx(6.1, abs=0.3)
    assert len(found.samples) / RATE == pytest.approx(8.1, abs=0.3)
    assert sum(hole.seconds for hole in found.missing) < 8 * size / len(data) + 0.3
    assert "s at 3." in found.damage and " s could be read" in found.damage


def test_a_whole_file_has_one_piece():
    data = aac(beeps())
    for whole in (data, TITLE + data, data + b"TAG".ljust(128, b"\0")):
        (piece,) = pieces_of(whole)
        assert piece.stream == data and not piece.lost
        found = read_recording(whole)
        assert second_tone(found) == pytest.approx(6.1, abs=0.1) and not found.damage


@pytest.mark.parametrize("rate", [RATE, 48_000, 8_000])
def test_files_behind_each_other(rate: int):
    """Of other rates, too, and with titles between them."""
    found = read_recording(aac(beeps()) + TITLE + aac(beeps(rate), rate))
    assert len(found.samples) / RATE == pytest.approx(16.2, abs=0.15)
    assert not found.damage


def test_a_missing_end_is_told():
    data = aac(beeps())
    found = read_recording(data[: len(data) * 3 // 4])
    assert len(found.samples) / RATE == pytest.approx(6, abs=0.3) and found.damage


@pytest.mark.parametrize("data", [b"\xff" * 5000, b"\xff\xf1" * 99, b"ID3", b"", TITLE])
def test_anything_else_has_no_pieces(data: bytes):
    assert pieces_of(data) == []
