"""Opening picture files: formats, colours, orientation, damage and disguise."""

import io
import os
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import claiming_png
from PIL import Image, ImageOps

from mlx_gemma4.errors import MediaError
from mlx_gemma4.vision import colours, images
from mlx_gemma4.vision.images import open_image

RED, BLUE = (255, 0, 0), (0, 0, 255)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
HEIC = struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(100)


def flag(mode: str = "RGB") -> Image.Image:
    """Red above blue, 8 wide and 6 high."""
    image = Image.new("RGB", (8, 6), BLUE)
    image.paste(RED, (0, 0, 8, 3))
    return image.convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def corners(image: Image.Image) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Colours at the top left and the bottom right."""
    assert image.mode == "RGB"
    pixels = np.asarray(image).tolist()
    return tuple(pixels[0][0]), tuple(pixels[-1][-1])


KINDS: dict[str, Callable[[Image.Image], bytes]] = {
    "png": lambda image: encoded(image, "PNG"),
    "gif": lambda image: encoded(image, "GIF"),
    "bmp": lambda image: encoded(image, "BMP"),
    "tiff": lambda image: encoded(image, "TIFF", compression="tiff_lzw"),
    "webp": lambda image: encoded(image, "WEBP", lossless=True),
    "jpeg2000": lambda image: encoded(image, "JPEG2000"),
    "ppm": lambda image: encoded(image, "PPM"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_formats(kind: str, tmp_path: Path) -> None:
    """By content, whatever the name says; from str, Path and bytes alike."""
    data = KINDS[kind](flag())
    path = tmp_path / "picture.jpg"
    path.write_bytes(data)
    for source in (str(path), path, data):
        image = open_image(source)
        assert image.size == (8, 6)
        assert corners(image) == (RED, BLUE)


def test_jpeg() -> None:
    image = open_image(encoded(flag().resize((80, 60)), "JPEG", quality=95))
    np.testing.assert_allclose(corners(image), (RED, BLUE), atol=3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_orientation(kind: str, orientation: int) -> None:
    """Whatever way the camera was held, red ends up above blue."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose, inverted
    stored = flag()
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    image = open_image(encoded(stored, kind, exif=exif, **options))
    assert image.size == (8, 6)
    np.testing.assert_array_equal(image, flag())


def test_orientation_of_an_opened_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(io.BytesIO(encoded(flag(), "PNG", exif=exif))) as opened:
        assert corners(open_image(opened)) == (BLUE, RED)


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK", "YCbCr", "RGBa", "RGBX", "HSV"])
def test_colours(mode: str) -> None:
    image = flag("RGBA").convert(mode) if mode == "RGBa" else flag(mode)
    np.testing.assert_allclose(corners(open_image(image)), (RED, BLUE), atol=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "La", "RGBa"])
def test_transparency_is_white(mode: str) -> None:
    """Also where the pixels beneath are black."""
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 2, 4))
    if mode == "La":
        image = image.convert("LA")
    white, black = (255,) * 3, (0,) * 3
    assert corners(open_image(image.convert(mode))) == (black, white)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_transparent_colour(mode: str) -> None:
    """One colour of a PNG stands for nothing."""
    image = Image.new("L", (4, 4), 0).convert(mode)
    hole = (0, 0, 0) if mode == "RGB" else image.getpixel((0, 0))
    data = encoded(image, "PNG", transparency=hole)
    assert corners(open_image(data)) == ((255,) * 3, (255,) * 3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bits(kind: str) -> None:
    values = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    image = open_image(encoded(Image.fromarray(values), kind))
    assert np.asarray(image)[0, :, 1].tolist() == [0, 1, 128, 255]


def test_16_bits_with_a_transparent_grey() -> None:
    image = Image.fromarray(np.array([[0, 257, 514]], np.uint16))
    image.info["transparency"] = 257
    assert np.asarray(open_image(image))[0, :, 0].tolist() == [0, 255, 2]


def test_floats() -> None:
    image = Image.fromarray(np.array([[0, 0.2, 1]], np.float32))
    assert np.asarray(open_image(image))[0, :, 2].tolist() == [0, 51, 255]


@pytest.mark.parametrize("value", [-1.0, 7.0, np.nan])
def test_floats_beyond(value: float) -> None:
    image = Image.fromarray(np.array([[0, value]], np.float32))
    with pytest.raises(MediaError, match="values beyond 0 to 1: save it"):
        open_image(image)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame(kind: str) -> None:
    frames = [ImageOps.invert(flag()), ImageOps.flip(flag())]
    data = encoded(flag(), kind, save_all=True, append_images=frames)
    moves = kind != "TIFF"
    told = "moves: only the first of its 3 frames is seen here. Give it as a video"
    with pytest.warns(UserWarning, match=told) if moves else nullcontext():
        image = open_image(data)
    np.testing.assert_allclose(corners(image), (RED, BLUE), atol=60)


def test_a_pipe(tmp_path: Path) -> None:
    """What a shell's <(command) gives."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(encoded(flag(), "PNG"),))
    writer.start()
    assert corners(open_image(pipe)) == (RED, BLUE)
    writer.join()


@pytest.mark.parametrize("kind", [*KINDS, "jpeg"])
def test_damage(kind: str) -> None:
    """Cut at any length or with bytes changed: an RGB picture or MediaError."""
    draw = np.random.RandomState(7)
    picture = Image.fromarray(draw.randint(0, 256, (40, 50, 3)).astype(np.uint8))
    whole = encoded(picture, "JPEG") if kind == "jpeg" else KINDS[kind](picture)
    cuts = [whole[:n] for n in draw.randint(0, len(whole), 40)]
    refused = 0
    for data in [*cuts, *(_garbled(whole, draw) for _ in range(80))]:
        try:
            image = open_image(data)
            assert image.mode == "RGB" and min(image.size) > 0
        except MediaError as error:
            refused += 1
            assert str(error).startswith("The picture ")
    assert refused >= len(cuts) // 2


def _garbled(data: bytes, draw: np.random.RandomState) -> bytes:
    out = bytearray(data)
    for at in draw.randint(0, min(len(out), 400), draw.randint(1, 8)):
        out[at] = draw.randint(256)
    return bytes(out)


def _write(name: str, data: bytes) -> Callable[[Path], Any]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_write("a.png", b""), "a.png is empty"),
        (_write("a.png", b"hello"), "a.png is in no picture format known here: save"),
        (_write("a.jpg", b"RIFF\0\0\0\0WAVEfmt "), "a.jpg is in no picture format"),
        (
            _write("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n"),
            "a.eps is in no picture format",
        ),
        (
            _write("a.png", encoded(flag(), "PNG")[:60]),
            "a.png is damaged or incomplete",
        ),
        (
            _write("a.png", claiming_png(30000, 30000)),
            "a.png has too many pixels.*smaller",
        ),
        (_write("a.png", claiming_png(9500, 9500)), "a.png is damaged or incomplete"),
        (_write("a.png", claiming_png(1, 10**8)), "has 1 x 100000000 pixels, too many"),
        (_write("a.png", LFS), "a.png is a Git LFS pointer, not the picture itself"),
        (_write("a.png", b"\n<!DOCTYPE html>"), "a.png is a web page, not a picture"),
        (_write("a.png", b"%PDF-1.7\n"), "a.png is a PDF document, not one picture"),
        (_write("a.heic", HEIC), "a.heic is a HEIC picture: .* install pillow-heif"),
        (lambda folder: folder / "gone.png", "There is no picture .*gone.png"),
        (lambda folder: folder, "is a folder: name the pictures in it"),
        (lambda folder: "https://example.org/a.png", "is a URL: download"),
        (lambda folder: "x" * 5000, "There is no picture x{200}…: check"),
        (lambda folder: "a\0b", "There is no picture"),
        (lambda folder: b"", "The picture is empty"),
        (lambda folder: Image.new("RGB", (0, 5)), "is 0 x 5 pixels: nothing to see"),
        (lambda folder: 3, "not a int"),
    ],
)
def test_errors(
    make: Callable[[Path], Any],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(MediaError, match=says) as caught:
        open_image(make(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["path", "bytes"])
def test_sips(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Mac, what Pillow cannot read is converted to TIFF, orientation and all."""
    source = _fake_sips(tmp_path, monkeypatch, 'cp {tiff} "$6"')
    image = open_image(source if given == "path" else source.read_bytes())
    assert corners(image) == (BLUE, RED)
    command = (tmp_path / "said").read_text().split()
    assert command[:3] == ["-s", "format", "tiff"] and command[4] == "--out"


def test_sips_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _fake_sips(tmp_path, monkeypatch, "echo Error: Cannot extract image. >&2")
    with pytest.raises(MediaError, match=r"sips can read \(Error: Cannot extract"):
        open_image(source)


def _fake_sips(folder: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 3
    (folder / "turned.tiff").write_bytes(encoded(flag(), "TIFF", exif=exif))
    does = does.format(tiff=folder / "turned.tiff")
    sips = folder / "sips"
    sips.write_text(f'#!/bin/sh\necho "$@" > {folder}/said\n{does}\n')
    sips.chmod(0o755)
    (folder / "a.heic").write_bytes(HEIC)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder / "a.heic"


def test_a_pdf_never_goes_through_sips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would give the first page, and drop the others without a word."""
    _fake_sips(tmp_path, monkeypatch, 'cp {tiff} "$6"')
    with pytest.raises(MediaError, match="is a PDF document"):
        open_image(b"%PDF-1.7\n")
    assert not (tmp_path / "said").exists()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG2000"])
def test_too_large_before_any_pixel_is_read(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoders that take twice the memory get half the pixels."""
    monkeypatch.setattr(images, "MOST_PIXELS", 60 if kind == "PNG" else 120)
    options = {} if kind == "JPEG2000" else {"lossless": True}
    assert open_image(encoded(flag().crop((0, 0, 8, 6)), kind, **options))
    with pytest.raises(MediaError, match="has 8 x 8 pixels, too many. Make it smaller"):
        open_image(encoded(flag().resize((8, 8)), kind, **options))


@pytest.mark.parametrize("mode", ["RGBA", "I;16", "CMYK", "P", "1", "LA"])
def test_bands(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is converted piece by piece is what is converted at once."""
    draw = np.random.RandomState(5)
    values = draw.randint(0, 1 << 16 if mode == "I;16" else 256, (37, 5, 4))
    if mode == "I;16":
        image = Image.fromarray(values[:, :, 0].astype(np.uint16))
    else:
        image = Image.fromarray(values.astype(np.uint8), "RGBA").convert(mode)
    whole = np.asarray(open_image(image))
    monkeypatch.setattr(colours, "BAND", 23)
    np.testing.assert_array_equal(open_image(image), whole)
