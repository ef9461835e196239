"""Times of sound that starts late or has holes, as the time stamps of a file say."""

import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sounds import needs_pyav, tone

from mlx_gemma4.audio.files import RATE, read_recording
from mlx_gemma4.errors import MediaError

# A container, a codec, and what else it takes to make both.
KINDS = {
    "mkv": ("aac", "mpeg4"),
    "webm": ("libopus", "libvpx"),
    "mp4": ("aac", "mpeg4"),
    "mov": ("aac", "mpeg4"),
    "ts": ("aac", "mpeg4"),
}
CODEC_RATE = {"libopus": 48_000}
FORMS = {"libopus": "flt", "aac": "fltp", "pcm_s16le": "s16"}


def film(path: Path, starts: list[float], length: float = 12.0) -> Path:
    """A film of `length` seconds, with a tone of one second at each of `starts`."""
    import av

    codec, picture = KINDS[path.suffix[1:]]
    rate = CODEC_RATE.get(codec, RATE)
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream(picture, rate=2)
        video.width, video.height = 32, 32
        video.pix_fmt = "yuv420p"
        sound: Any = container.add_stream(codec, rate=rate, layout="mono")
        sound.codec_context.open()
        size = sound.codec_context.frame_size or 800
        packets = []
        for _ in range(round(length * 2)):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
            packets += video.encode(frame)
        packets += video.encode(None)
        for start in starts:
            samples = tone(1, rate)
            if codec == "pcm_s16le":
                samples = (samples * 32_767).astype(np.int16)
            for at in range(0, len(samples) - size + 1, size):
                part = samples[None, at : at + size]
                frame = av.AudioFrame.from_ndarray(part, FORMS[codec], layout="mono")
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = round(start * rate) + at
                packets += sound.encode(frame)
        packets += sound.encode(None)
        packets.sort(key=lambda packet: float((packet.dts or 0) * packet.time_base))
        for packet in packets:
            container.mux(packet)
    return path


def tones(samples: np.ndarray) -> list[float]:
    """When each tone begins, in seconds."""
    loud = np.flatnonzero(np.abs(samples) > 0.25) / RATE
    return [float(loud[0]), *loud[1:][np.diff(loud) > 0.5].tolist()]


@needs_pyav
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("starts", [[0], [5], [0, 6], [3, 9]], ids=str)
def test_sound_is_when_the_film_has_it(tmp_path, kind, starts):
    path = film(tmp_path / f"film.{kind}", starts)
    for source in (path, path.read_bytes()):
        found = read_recording(source)
        assert tones(found.samples) == pytest.approx(starts, abs=0.1)
        assert len(found.samples) / RATE == pytest.approx(starts[-1] + 1, abs=0.15)
        assert not found.damage


@needs_pyav
@pytest.mark.parametrize("kind", ["mkv", "webm", "mp4"])
@pytest.mark.parametrize("size", [300, 2000])
def test_a_bad_spot_is_left_out_and_told(tmp_path, capfd, kind, size):
    """What comes behind it is where it was."""
    path = film(tmp_path / f"film.{kind}", [0, 4, 8])
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    noise = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    data[at : at + size] = noise.tobytes()
    found = read_recording(bytes(data))
    assert tones(found.samples)[-1] == pytest.approx(8, abs=0.2)
    assert "of 9.0 s could be read (missing: " in found.damage
    assert capfd.readouterr().err == ""


@needs_pyav
def test_a_wav_of_a_kind_that_nobody_knows(tmp_path):
    import soundfile

    soundfile.write(tmp_path / "a.wav", tone(1, RATE), RATE)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    for kind in (0, 0x0BAD):
        data[20:22] = kind.to_bytes(2, "little")
        with pytest.raises(MediaError, match="cannot be decoded .*no decoder"):
            read_recording(bytes(data))


@needs_pyav
def test_a_clock_that_jumps_is_no_pause(tmp_path):
    """Broadcasts joined: the stamps of the second begin anywhere."""
    first = film(tmp_path / "a.ts", [0], 1).read_bytes()
    second = film(tmp_path / "b.ts", [50], 51).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_recording(first + second)
    assert len(found.samples) / RATE < 5 and len(tones(found.samples)) >= 1
