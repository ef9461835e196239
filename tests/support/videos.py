"""Small videos made with PyAV."""

from pathlib import Path

import numpy as np
import pytest

RATE = 10

LOSSLESS = "ffv1"  # needs no player's codec and keeps every value

FORMATS = {
    "mp4": "mpeg4",
    "mov": "mpeg4",
    "matroska": LOSSLESS,
    "webm": "libvpx",
    "avi": "mjpeg",
    "mpegts": "mpeg4",
    "gif": "gif",
}

PIXELS = {LOSSLESS: "bgr0", "gif": "rgb8", "mjpeg": "yuvj420p"}


def video(format: str, path: Path, frames: int = 50, noise: bool = False) -> Path:
    """64 x 48 pixels; frame i is grey 5 * i, its upper half with more red."""
    av = pytest.importorskip("av", reason="PyAV is not installed (extra `media`)")
    codec, draw = FORMATS[format], np.random.RandomState(0)
    options = {"movflags": "faststart"} if format == "mp4" else {}
    with av.open(str(path), "w", format=format, options=options) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = PIXELS.get(codec, "yuv420p")
        for i in range(frames):
            pixels = np.full((48, 64, 3), 5 * i % 256, np.uint8)
            pixels[:24, :, 0] = 255
            if noise:
                pixels = draw.randint(0, 256, pixels.shape).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
