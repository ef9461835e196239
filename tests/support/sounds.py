"""Sounds made for tests: none is recorded, all can be made again."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile


def recording(samples: int) -> np.ndarray:
    """Noise over a loud tone that stops half-way, float32 `[samples]`."""
    noise = 0.01 * np.random.default_rng(samples).standard_normal(samples)
    sound = 0.8 * np.sin(0.3 * np.arange(samples))
    sound[samples // 2 :] = 0
    return (noise + sound).astype(np.float32)


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    """A sine of amplitude 0.5, float32 `[n]`."""
    turns = hertz / rate * np.arange(round(seconds * rate))
    return (0.5 * np.sin(2 * np.pi * turns)).astype(np.float32)


needs_pyav = pytest.mark.skipif(
    importlib.util.find_spec("av") is None,
    reason="needs the extra: pip install .[media]",
)

# How far a lossy format may be from the sound, relative to its loudness.
LOSSY = {"mp3": 0.1, "ogg": 0.1, "opus": 0.1}

TRACK_RATE = 16_000

FORMATS = ("wav", "flac", "aiff", "caf", "au", "w64", *LOSSY)


def write(path: Path, samples: np.ndarray, rate: int) -> Path:
    if path.suffix == ".opus":
        soundfile.write(path, samples, rate, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, samples, rate)
    return path


def write_tracks(
    path: Path,
    tracks: list[list[np.ndarray]],
    default: int | None = None,
    codec: str = "pcm_f32le",
) -> Path:
    """A file with several sound tracks, one list of channels at 16 kHz each."""
    av = pytest.importorskip("av", reason="PyAV is not installed (extra `media`)")
    layouts = {1: "mono", 2: "stereo", 6: "5.1"}
    with av.open(str(path), "w") as container:
        streams = []
        for number, channels in enumerate(tracks):
            layout = layouts[len(channels)]
            stream = container.add_stream(codec, rate=TRACK_RATE, layout=layout)
            stream.disposition = av.stream.Disposition.default * (number == default)
            streams.append(stream)
        for stream, channels in zip(streams, tracks, strict=True):
            packed = np.stack(channels, 1).astype(np.float32).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(
                packed, format="flt", layout=layouts[len(channels)]
            )
            frame.rate = TRACK_RATE
            context = stream.codec_context
            if not context.is_open:
                context.open()
            cut = av.AudioResampler(
                context.format.name,
                frame.layout,
                TRACK_RATE,
                context.frame_size or None,
            )
            for part in [*cut.resample(frame), *cut.resample(None), None]:
                container.mux(stream.encode(part))
    return path
