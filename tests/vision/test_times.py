"""Frames at their own times where the rate varies; moving pictures; shapes."""

import io
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from videos import video

from mlx_gemma4.errors import MediaError
from mlx_gemma4.vision import animation
from mlx_gemma4.vision.timeline import Timeline, sample
from mlx_gemma4.vision.video import Frame, video_frames

# Eight seconds of a still picture, then two seconds that move: a recording of a screen.
VARYING = [0.0, 1.0, 4.0, *(8 + i / 30 for i in range(60))]


def frames_of(source: Any, **options: Any) -> list[Frame]:
    return list(video_frames(source, **options))


def number(image: Image.Image) -> int:
    return round(float(np.asarray(image)[..., 1].mean()) / 4)


def bars(value: int) -> np.ndarray:
    """A number that survives any codec: a column for each of its bits."""
    bits = np.array([255 * (value >> bit & 1) for bit in range(8)], np.uint8)
    return np.broadcast_to(bits.repeat(8)[None, :, None], (48, 64, 3)).copy()


def coded(image: Image.Image) -> int:
    columns = np.asarray(image)[..., 1].mean(0).reshape(8, 8).mean(1)
    return sum(1 << bit for bit in range(8) if columns[bit] > 127)


def varying(format: str, path: Path, start: float = 0.0) -> Path:
    """Frame i shows its number, from VARYING[i] on."""
    av = pytest.importorskip("av", reason="PyAV is not installed (extra `media`)")
    codec = {"mp4": "mpeg4", "matroska": "ffv1", "webm": "libvpx"}[format]
    with av.open(str(path), "w", format=format) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, time in enumerate(VARYING):
            frame = av.VideoFrame.from_ndarray(bars(i), format="rgb24")
            frame.pts, frame.time_base = round(1000 * (start + time)), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.slow
@pytest.mark.parametrize("format", ["mp4", "matroska", "webm"])
@pytest.mark.parametrize("options", [{}, {"fps": 1.0}, {"frames": 5}, {"fps": 20.0}])
def test_a_varying_rate(format: str, options: dict[str, Any], tmp_path: Path) -> None:
    """Each frame once, at the time it is shown, evenly over the whole."""
    found = frames_of(varying(format, tmp_path / "clip"), **options)
    times = [time for _, time in found]
    assert times == sorted(set(times)) and times[0] == 0
    true = [VARYING[coded(image)] for image, _ in found]
    np.testing.assert_allclose(times, true, atol=0.002)
    wanted = options.get("frames") or int(10 * options.get("fps", 3.2))
    moments = [i * 10 / wanted for i in range(wanted)]
    shown = {max(t for t in VARYING if t <= moment + 0.002) for moment in moments}
    np.testing.assert_allclose(times, sorted(shown), atol=0.04)  # one frame


def test_an_even_rate_is_what_the_reference_takes_it_for() -> None:
    draw = np.random.RandomState(4)
    for rate in (10.0, 24000 / 1001, 30.0, 59.94):
        total = draw.randint(3, 400)
        times = [round(i / rate, 3) for i in range(total)]  # as Matroska rounds
        line = Timeline.of(times, total / rate, rate)
        for frames, fps in ((32, None), (5, 2.0), (5, 0.1)):
            assert line.chosen(frames, fps) == sample(total, rate, frames, fps)
        assert line.time(2) == 2 / rate


def test_moments_that_lie_evenly() -> None:
    line = Timeline.of([0.0, 0.1, 0.2, 5.0], 10.0, 25.0)
    assert line.rate is None
    assert line.chosen(2, None) == [0, 3] and line.chosen(1, None) == [0]
    assert line.chosen(100, None) == [0, 1, 2, 3]
    assert line.chosen(1, 0.05) == [0] and line.chosen(1, 0.2) == [0, 3]
    assert line.time(3) == 5.0


KINDS = {
    "GIF": {"disposal": 1},
    "PNG": {},
    "WEBP": {"lossless": True, "minimize_size": False},
    "AVIF": {"quality": 100},
}


def moving(kind: str, path: Path, lasting: list[int] | int, count: int = 10) -> Path:
    """Frame i is grey 4 * i."""
    frames = []
    for i in range(count):
        pixels = np.full((48, 64, 3), 4 * i, np.uint8)
        frames.append(Image.fromarray(pixels))
    first, *rest = frames
    options: Any = KINDS[kind]
    first.save(
        path, kind, save_all=True, append_images=rest, duration=lasting, **options
    )
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_moving_pictures(kind: str, tmp_path: Path) -> None:
    """Seen as videos, whatever reads videos and whatever their name says."""
    path = moving(kind, tmp_path / "clip.png", 200)
    for source in (path, str(path), path.read_bytes()):
        found = frames_of(source, frames=5)
        assert [time for _, time in found] == [0, 0.4, 0.8, 1.2, 1.6]
        assert [number(image) for image, _ in found] == [0, 2, 4, 6, 8]
        assert {image.mode for image, _ in found} == {"RGB"}


@pytest.mark.parametrize("kind", KINDS)
def test_moving_pictures_of_a_varying_rate(kind: str, tmp_path: Path) -> None:
    lasting = [5000, *[100] * 8, 200]
    path = moving(kind, tmp_path / "clip", lasting)
    assert [(number(image), time) for image, time in frames_of(path, frames=6)] == [
        (0, 0),
        (1, 5),
    ]
    assert [number(image) for image, _ in frames_of(path, fps=10)] == list(range(10))


def test_no_time_at_all_is_a_tenth_of_a_second(tmp_path: Path) -> None:
    """As browsers show it."""
    found = frames_of(moving("GIF", tmp_path / "a.gif", 0, count=4))
    assert [time for _, time in found] == [0, 0.1, 0.2, 0.3]


def test_transparency_of_moving_pictures(tmp_path: Path) -> None:
    frames = [Image.new("RGBA", (8, 6), (0, 0, 9 * i, 0)) for i in range(2)]
    out = io.BytesIO()
    frames[0].save(out, "PNG", save_all=True, append_images=frames[1:], duration=100)
    assert frames_of(out.getvalue())[0][0].getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("limit", "most"), [("MOST_FRAMES", 3), ("MOST_DRAWN", 3 * 64 * 48)]
)
def test_a_moving_picture_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    path = moving("GIF", tmp_path / "a.gif", 100, count=4)
    assert len(frames_of(path)) == 4
    monkeypatch.setattr(animation, limit, most)
    with pytest.raises(MediaError, match="has 4 frames of 64 x 48 pixels, too many"):
        frames_of(path)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_moving_pictures(kind: str, tmp_path: Path) -> None:
    """Frames or MediaError, nothing else."""
    pytest.importorskip("av", reason="PyAV is not installed (extra `media`)")
    whole = moving(kind, tmp_path / "clip", 100).read_bytes()
    draw = np.random.RandomState(6)
    for n in range(20):
        data = bytearray(whole)
        if n % 2:
            del data[draw.randint(1, len(data)) :]
        for at in draw.randint(0, len(data), draw.randint(1, 5)):
            data[at] = draw.randint(256)
        try:
            assert len(frames_of(bytes(data), frames=4)) <= 4
        except MediaError as error:
            assert str(error).startswith("The video ")


# Of a file's matrix (a, b, c, d), a point (x, y) lands at (a x + c y, b x + d y).
MATRICES = [
    *((1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1)),
    *((0, 1, -1, 0), (0, -1, 1, 0), (0, 1, 1, 0), (0, -1, -1, 0)),
]


@pytest.mark.parametrize("matrix", MATRICES)
def test_turned_and_mirrored(matrix: tuple[int, ...], tmp_path: Path) -> None:
    """Every corner lands where the file's matrix puts it."""
    av = pytest.importorskip("av", reason="PyAV is not installed (extra `media`)")
    levels = np.array([[0, 80], [160, 240]], np.uint8)  # one for each corner
    with av.open(str(tmp_path / "a.mp4"), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        pixels = np.repeat(levels.repeat(24, 0).repeat(32, 1)[..., None], 3, 2)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    a, b, c, d = matrix
    at = data.index(b"tkhd") + 44
    stored = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    data[at : at + 36] = struct.pack(">9i", *stored)
    ((image, _),) = frames_of(bytes(data))
    assert image.size == ((64, 48) if a else (48, 64))
    seen = np.asarray(image.resize((2, 2), Image.Resampling.BOX))[..., 1]
    for y in (0, 1):
        for x in (0, 1):
            left, top = a * x + c * y, b * x + d * y
            left, top = left + (a + c < 0), top + (b + d < 0)
            assert abs(int(seen[top, left]) - int(levels[y, x])) < 12


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (Fraction(4, 3), (85, 48)),
        (Fraction(8, 9), (64, 54)),
        (Fraction(1), (64, 48)),
        (Fraction(200, 199), (64, 48)),  # a rounding, no shape
        (Fraction(100), (64, 48)),  # a mistake
    ],
)
def test_pixels_that_are_not_square(
    shape: Fraction, size: tuple[int, int], tmp_path: Path
) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed (extra `media`)")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = shape
        container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode())
    ((image, _),) = frames_of(tmp_path / "a.mp4")
    assert image.size == size


def test_a_late_start_is_no_varying_rate(tmp_path: Path) -> None:
    """Times count from the first frame, as in `video`, whose rate is even."""
    found = frames_of(varying("matroska", tmp_path / "clip", start=3.0), frames=5)
    assert [round(time, 2) for _, time in found][:2] == [0, 1]
    assert frames_of(video("mpegts", tmp_path / "a.ts"), frames=2)[1][1] == 2.5
