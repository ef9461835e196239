"""Frames and times of videos, and of lists of pictures."""

import os
import re
import struct
import sys
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from videos import FORMATS, video

from mlx_gemma4.errors import MediaError, install_command
from mlx_gemma4.vision.timeline import sample
from mlx_gemma4.vision.video import Frame, timestamp, video_frames

FIRST = int(os.environ.get("GEMMA4_SEED", "0"))


def open_video(*arguments: Any, **options: Any) -> list[Frame]:
    return list(video_frames(*arguments, **options))


def number(image: Image.Image) -> int:
    """Which frame of `video` it is."""
    assert image.mode == "RGB"
    return round(np.asarray(image)[-8:, :, 1].mean() / 5)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_every_container(format: str, tmp_path: Path) -> None:
    """Those that state their number of frames, and those that do not."""
    path = video(format, tmp_path / "clip")
    for source in (path, str(path), path.read_bytes()):
        frames = open_video(source, frames=8)
        assert [time for _, time in frames] == [0, 0.6, 1.2, 1.8, 2.5, 3.1, 3.7, 4.3]
        seen = [number(image) for image, _ in frames]
        np.testing.assert_allclose(seen, [0, 6, 12, 18, 25, 31, 37, 43], atol=1)


def test_exact_frames(tmp_path: Path) -> None:
    frames = open_video(video("matroska", tmp_path / "clip"))
    assert len(frames) == 32
    assert [number(image) for image, _ in frames] == [i * 50 // 32 for i in range(32)]
    image = frames[3][0]
    assert image.size == (64, 48)
    assert image.getpixel((5, 5)) == (255, 20, 20)


def test_short_video_gives_all_it_has(tmp_path: Path) -> None:
    frames = open_video(video("matroska", tmp_path / "clip", frames=5))
    assert [number(image) for image, _ in frames] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("fps", "count"), [(2, 10), (0.1, 1), (0.5, 2), (99, 50)])
def test_frames_per_second(fps: float, count: int, tmp_path: Path) -> None:
    frames = open_video(video("matroska", tmp_path / "clip"), fps=fps)
    assert [number(i) for i, _ in frames] == [i * 50 // count for i in range(count)]


@pytest.mark.parametrize(("turn", "at"), [((0, 1, -1, 0), -1), ((0, -1, 1, 0), 0)])
def test_upright(turn: tuple[int, ...], at: int, tmp_path: Path) -> None:
    """A phone's sideways film: the reddish half lands right or left."""
    data = bytearray(video("mp4", tmp_path / "clip").read_bytes())
    a, b, c, d = (65536 * x for x in turn)
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    image = open_video(bytes(data), frames=1)[0][0]
    assert image.size == (48, 64)
    red = np.asarray(image)[32, :, 0].astype(int)
    assert red[at] > 240 and red[-1 - at] < 15


def test_trimmed(tmp_path: Path) -> None:
    """What an editor cut away without encoding anew is neither counted nor shown."""
    path = video("mp4", tmp_path / "clip")
    av = pytest.importorskip("av", reason="PyAV is not installed (extra `media`)")
    with av.open(str(path)) as whole, av.open(str(tmp_path / "a.mp4"), "w") as trimmed:
        stream = whole.streams.video[0]
        copy, two_seconds = (
            trimmed.add_stream_from_template(stream),
            2 / stream.time_base,
        )
        for packet in whole.demux(stream):
            if packet.size:
                packet.pts, packet.dts = (
                    int(time - two_seconds) for time in (packet.pts, packet.dts)
                )
                packet.stream = copy
                trimmed.mux(packet)
    frames = open_video(tmp_path / "a.mp4", frames=3)
    assert [(number(image), time) for image, time in frames] == [
        (20, 0),
        (30, 1),
        (40, 2),
    ]


def test_pictures_are_frames(tmp_path: Path) -> None:
    """All of them, 24 a second unless told otherwise."""
    Image.new("L", (5, 4), 7).save(tmp_path / "a.png")
    pictures = [tmp_path / "a.png", Image.new("RGB", (3, 3))] * 20
    frames = open_video(pictures)
    assert [time for _, time in frames] == [i / 24 for i in range(40)]
    assert [image.size for image, _ in frames[:2]] == [(5, 4), (3, 3)]
    assert [time for _, time in open_video(pictures, fps=0.5)][:3] == [0, 2, 4]


def test_one_at_a_time() -> None:
    frames = video_frames([Image.new("RGB", (3, 3)), b"no picture"])
    assert next(frames)[1] == 0
    with pytest.raises(MediaError, match="no picture format"):
        next(frames)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "00:00"), (59.99, "00:59"), (60, "01:00"), (754.2, "12:34"), (6000, "100:00")],
)
def test_timestamp(seconds: float, expected: str) -> None:
    assert timestamp(seconds) == expected


def test_sample() -> None:
    assert sample(10, 24, 4, None) == [0, 2, 5, 7]
    assert sample(3, 24, 32, None) == [0, 1, 2]
    assert sample(240, 24, 32, 0.5) == [0, 48, 96, 144, 192]


@pytest.mark.parametrize("share", [0.001, 0.03, 0.3, 0.8, 0.999])
def test_cut_off(share: float, tmp_path: Path) -> None:
    """A download that stopped is refused where the file says what is missing."""
    data = video("mp4", tmp_path / "clip", noise=True).read_bytes()
    with pytest.raises(MediaError, match="damaged or not a video|cut off|no pictures"):
        open_video(data[: int(share * len(data))])


def test_a_beginning_is_told(tmp_path: Path) -> None:
    """Matroska says how long it is, and its reader does not mind if it is not."""
    data = video("matroska", tmp_path / "clip", noise=True).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(open_video(data)) == 32
    with pytest.warns(UserWarning, match=r"only 2\.\d of 5\.0 s could be read"):
        assert open_video(data[: len(data) // 2])[-1][1] < 2.6


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_damage(format: str, tmp_path: Path) -> None:
    """With bytes changed: frames or MediaError, nothing else."""
    whole = video(format, tmp_path / "clip", frames=12, noise=True).read_bytes()
    draw = np.random.RandomState(3)
    for _ in range(25):
        data = bytearray(whole)
        for at in draw.randint(0, len(data), draw.randint(1, 30)):
            data[at] = draw.randint(256)
        try:
            assert 0 < len(open_video(bytes(data), frames=4)) <= 4
        except MediaError as error:
            assert str(error).startswith("The video ")


def _write(name: str, data: bytes) -> Callable[[Path], Any]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


def _sound(folder: Path) -> Path:
    soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
    soundfile.write(folder / "a.wav", np.zeros(16000), 16000)
    return folder / "a.wav"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_write("a.mp4", b""), "a.mp4 is empty: get"),
        (_write("a.mp4", b"hello there"), "a.mp4 is damaged or not a video .*convert"),
        (_write("a.mp4", bytes(9999)), "a.mp4 is damaged or not a video"),
        (_sound, "a.wav has no pictures: it is not a video"),
        (lambda folder: folder / "gone.mp4", "There is no video .*gone.mp4: check"),
        (lambda folder: folder, "is a folder: name the videos in it"),
        (lambda folder: "http://example.org/a.mp4", "a.mp4 is a URL: download"),
        (lambda folder: [], "A video without frames"),
    ],
)
def test_errors(make: Callable[[Path], Any], says: str, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed (extra `media`)")
    with pytest.raises(MediaError, match=says) as caught:
        open_video(make(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"frames": 0}, {"fps": 0.0}, {"fps": np.nan}])
def test_no_frames_asked(options: dict[str, Any]) -> None:
    with pytest.raises(MediaError, match="at least one frame, and a positive fps"):
        open_video([Image.new("RGB", (3, 3))], **options)


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"video")
    with pytest.raises(MediaError, match=re.escape(install_command("media"))):
        open_video(tmp_path / "a.mp4")
    assert len(open_video([Image.new("RGB", (3, 3))])) == 1


@pytest.mark.reference
def test_sampling_of_the_reference() -> None:
    from transformers.video_utils import VideoMetadata, default_sample_indices_fn

    draw = np.random.RandomState(FIRST)
    for _ in range(500):
        total, fps = int(draw.randint(32, 9000)), float(draw.uniform(0.05, 5))
        rate = float(Fraction(int(draw.randint(6000, 60000)), 1001))
        metadata: Any = VideoMetadata(total, rate)
        for ours, theirs in (
            (sample(total, rate, 32, None), {"num_frames": 32}),
            (sample(total, rate, 32, fps), {"fps": fps}),
        ):
            expected = default_sample_indices_fn(metadata, **theirs)
            assert ours == expected.tolist()
            metadata.frames_indices = expected
            assert [i / rate for i in ours] == metadata.timestamps


@pytest.mark.reference
def test_decoding_of_the_reference(tmp_path: Path) -> None:
    from transformers.video_utils import default_sample_indices_fn, read_video_pyav

    def indices(metadata: Any) -> Any:
        return default_sample_indices_fn(metadata, num_frames=32)

    path: Any = video("mp4", tmp_path / "clip.mp4")
    expected, metadata = read_video_pyav(path, indices)
    ours = open_video(path)
    assert [time for _, time in ours] == metadata.timestamps
    np.testing.assert_array_equal([np.asarray(image) for image, _ in ours], expected)
