"""What media take of a context by their headers, against what reading them gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds
from pictures import encoded, pdf, png
from PIL import Image
from videos import video

from mlx_gemma4 import Processor, load
from mlx_gemma4.audio import files
from mlx_gemma4.audio.features import check_length
from mlx_gemma4.errors import MediaError
from mlx_gemma4.prompt.foretold import Foretold, less, named
from mlx_gemma4.vision import images


@pytest.fixture(scope="module")
def processor(demo_folder: Path) -> Processor:
    return load(demo_folder)[1]


def told_and_read(
    processor: Processor, part: dict[str, Any]
) -> tuple[list[int], list[int]]:
    messages = [{"role": "user", "content": [part]}]
    (told,) = processor.foretell(messages)
    return list(told.blocks), [a.count for a in processor.attach(messages).attached]


def sideways() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = Path("sideways.jpg")
    Image.new("RGB", (300, 100)).save(path, exif=exif)
    return path.read_bytes()


def pages() -> bytes:
    first, second = Image.new("RGB", (90, 40)), Image.new("RGB", (40, 200))
    first.save("pages.tiff", save_all=True, append_images=[second])
    return Path("pages.tiff").read_bytes()


def test_pictures(processor, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = [png(300, 100), encoded("JPEG", 70, 900), sideways(), pages()]
    for picture in (*given, Image.new("RGB", (50, 60))):
        told, read = told_and_read(processor, {"type": "image", "image": picture})
        assert told == read and told


def test_pages_of_a_pdf(processor) -> None:
    pytest.importorskip("pypdfium2")
    part = {"type": "image", "image": pdf("red", "blue")}
    told, read = told_and_read(processor, part)
    assert told == read and len(told) == 2


@pytest.mark.slow
@pytest.mark.parametrize("form", ["mp4", "matroska", "gif"])
def test_videos(form: str, processor, tmp_path) -> None:
    file = video(form, tmp_path / "film")
    for options in ({}, {"num_frames": 7}):
        part = {"type": "video", "path": str(file), **options}
        told, read = told_and_read(processor, part)
        assert told == read and told


@pytest.mark.parametrize("form", ["wav", "flac", "ogg", "mp3"])
def test_recordings(form: str, processor, tmp_path) -> None:
    sound = sounds.tone(2.0, 44_100)
    file = sounds.write(tmp_path / f"a.{form}", sound, 44_100)
    (told,), (read,) = told_and_read(processor, {"type": "audio", "path": str(file)})
    assert abs(told - read) <= 2
    samples = {"type": "audio", "audio": (np.zeros(16_000, np.float32), 16_000)}
    told, read = told_and_read(processor, samples)
    assert told == read


def test_what_is_too_long_is_not_decoded(processor, tmp_path, monkeypatch) -> None:
    file = sounds.write(tmp_path / "a.wav", sounds.tone(40.0, 8000), 8000)
    monkeypatch.setattr(files, "_decode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(
        MediaError, match=r"a\.wav: The recording lasts 40\.0 s and the model hears"
    ):
        processor.foretell([audio_message(file)])
    with pytest.raises(MediaError, match="too few"):
        check_length(1, processor.media.audio)


def audio_message(file: Path) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "audio", "path": str(file)}]}


def test_more_than_the_model_reads(processor, tmp_path, monkeypatch) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(png())
    monkeypatch.setattr(images, "loaded", lambda *_: pytest.fail("decoded"))
    message = {"role": "user", "content": [{"type": "image", "path": str(file)}] * 2000}
    with pytest.raises(MediaError, match=r"more than the .* tokens .*a\.png takes abo"):
        processor.foretell([message], image_tokens=1120)


def test_what_nobody_can_tell_is_left_to_decoding(processor, tmp_path) -> None:
    for kind in ("image", "video", "audio"):
        file = tmp_path / "nothing"
        file.write_bytes(b"none of these")
        messages = [{"role": "user", "content": [{"type": kind, "path": str(file)}]}]
        assert processor.foretell(messages)[0].tokens == 0


def test_the_largest_are_named() -> None:
    media = [Foretold("image", [n], f"{n}.png") for n in (5, 50, 500, 7, 8000)]
    told = " (8000.png takes about 8,002, 500.png takes about 502, 50.png takes about "
    assert named(media) == told + "52, 2 more media 16)"
    assert named([Foretold("audio", [9])]) == ""
    assert "--budget" in less(media) and "--frames" not in less(media)
    assert less([]) == ""


SOUND = np.zeros(8000, np.float32)
WRONG: list[dict[str, Any]] = [
    {"type": "image", "image": SOUND},
    *({"type": "audio", "audio": (SOUND, rate)} for rate in (np.nan, 1e-300, -1, 1.0)),
    {"type": "audio", "path": "a.wav", "track": "2"},
]


@pytest.mark.parametrize("part", WRONG)
def test_what_is_wrong_is_told_by_reading(
    part: dict[str, Any], processor, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sounds.write(Path("a.wav"), SOUND, 8000)
    messages = [{"role": "user", "content": [part]}]
    assert processor.foretell(messages)[0].tokens == 0
    with pytest.raises(MediaError):
        processor.attach(messages)


def test_pictures_that_come_one_by_one_are_not_used_up(processor) -> None:
    pictures = iter([Image.new("RGB", (50, 60))] * 3)
    told, read = told_and_read(processor, {"type": "video", "video": pictures})
    assert (len(told), len(read)) == (0, 3)


def test_a_name_that_looks_like_a_protocol(processor, tmp_path, monkeypatch) -> None:
    """As of a call at half past twelve."""
    monkeypatch.chdir(tmp_path)
    sound = [sounds.tone(1.0, 16_000)]
    sounds.write_tracks(tmp_path / "12:30.mkv", [sound])
    (told,), (read,) = told_and_read(processor, {"type": "audio", "path": "12:30.mkv"})
    assert abs(told - read) <= 2
