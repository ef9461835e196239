"""What a part of a message names its medium with, and how many pictures it is."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import pdf, png
from PIL import Image
from sounds import recording, write

from mlx_gemma4.errors import MediaError
from mlx_gemma4.media import content_keys
from mlx_gemma4.prompt.processor import Processor

TEXT = {"type": "text", "text": "What is this?"}


@pytest.fixture
def processor(media_processor: Processor) -> Processor:
    return media_processor


def keys(processor: Processor, *parts: dict[str, Any], **options: Any) -> list[int]:
    """The tokens, with a number for the content of each medium."""
    inputs = processor([{"role": "user", "content": [*parts, TEXT]}], **options)
    tokens: Any = inputs.tokens[0].tolist()
    return content_keys(tokens, inputs.spans)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def tiff(*colours: str) -> bytes:
    out = io.BytesIO()
    first, *rest = [Image.new("RGB", (64, 48), colour) for colour in colours]
    first.save(out, "TIFF", save_all=True, append_images=rest)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["tiff", "pdf"])
def test_pages_are_as_many_pictures(processor: Processor, kind: str) -> None:
    """One part with a document is what a part for each of its pages would be."""
    if kind == "pdf":
        pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
        document = pdf("1 0 0", "0 0 1", size=(64, 48))
        single = [pdf("1 0 0", size=(64, 48)), pdf("0 0 1", size=(64, 48))]
    else:
        document, single = tiff("red", "blue"), [tiff("red"), tiff("blue")]
    first, second = ({"type": "image", "image": data} for data in single)
    found = keys(processor, {"type": "image", "image": document})
    assert found == keys(processor, first, second)
    assert found != keys(processor, second, first)
    prepared = processor.prepare({"type": "image", "image": document})
    assert len(prepared.attached) == 2
    assert keys(processor, {"type": "image", "image": prepared}) == found


@pytest.mark.parametrize(
    "form",
    [
        lambda text: {"type": "image_url", "image_url": {"url": text}},
        lambda text: {"type": "image_url", "image_url": {"url": text, "detail": "low"}},
        lambda text: {"type": "image_url", "image_url": text},
        lambda text: {"type": "image", "image": text},
        lambda text: {"type": "image", "path": text},
        lambda text: {"type": "image", "url": text},
        lambda text: {"type": "image", "image": {"url": text}},
    ],
)
def test_pictures_in_requests(processor: Processor, form: Any) -> None:
    data = png(30, 20)
    url = f"data:image/png;base64,{encoded(data)}"
    expected = keys(processor, {"type": "image", "image": data})
    assert keys(processor, form(url)) == expected


@pytest.mark.parametrize(
    "spell",
    [
        lambda data: f"data:;base64,{encoded(data)}",
        lambda data: f"DATA:image/jpeg;charset=x;BASE64,{encoded(data)}",
        lambda data: f"data:image/png;base64,{encoded(data).rstrip('=')}",
        lambda data: "data:image/png;base64," + base64.encodebytes(data).decode(),
        lambda data: "data:image/png;base64," + base64.urlsafe_b64encode(data).decode(),
        lambda data: "data:image/png;base64," + encoded(data).replace("+", "%2B"),
        lambda data: "data:image/png," + "".join(f"%{byte:02x}" for byte in data),
    ],
)
def test_spellings_of_data_urls(processor: Processor, spell: Any) -> None:
    draw = np.random.RandomState(3)
    picture = Image.fromarray(draw.randint(0, 256, (21, 32, 3)).astype(np.uint8))
    out = io.BytesIO()
    picture.save(out, "PNG")
    data = out.getvalue()
    assert {"+", "/"} <= set(encoded(data))
    expected = keys(processor, {"type": "image", "image": data})
    assert keys(processor, {"type": "image", "image": spell(data)}) == expected


@pytest.mark.parametrize("form", ["data", "url", "bare", "path"])
def test_sound_in_requests(processor: Processor, form: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", recording(4000), 16_000)
    data = path.read_bytes()
    url = f"data:audio/wav;base64,{encoded(data)}"
    part: dict[str, Any] = {
        "data": {"input_audio": {"data": encoded(data), "format": "wav"}},
        "url": {"input_audio": {"data": url, "format": "wav"}},
        "bare": {"audio": url},
        "path": {"path": str(path)},
    }[form]
    expected = keys(processor, {"type": "audio", "audio": data})
    assert keys(processor, {"type": "input_audio", **part}) == expected


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"type": "image"}, r"messages\[0\]: .* 'image' needs 'image' or 'path'"),
        (
            {"type": "image_url", "image_url": {"detail": "low"}},
            r"messages\[0\].*needs 'image', 'image_url' or 'path'",
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "#", "format": "wav"}},
            r"messages\[0\]: the audio is given as base64 that is none",
        ),
        (
            {"type": "image", "image": "data:image/png;base64,a"},
            "The picture is given as base64 that is none",
        ),
        ({"type": "image", "image": "data:,"}, "The picture is empty"),
        (
            {"type": "image_url", "image_url": {"url": "data:text/plain,hello"}},
            "The picture is in no picture format",
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
            "https://example.org/a.png is a URL: download the picture first",
        ),
    ],
)
def test_parts_that_hold_nothing(
    processor: Processor, part: dict[str, Any], told: str
) -> None:
    with pytest.raises(MediaError, match=told) as caught:
        keys(processor, part)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ((117, 2000), r"117 x 2000 pixels is seen as \d+ x \d+: small text .* Take a"),
        ((2000, 117), ""),  # a panorama
        ((500, 400), ""),
        ((30, 100), ""),
    ],
)
def test_long_pictures_that_lose_their_text(
    processor: Processor, size: tuple[int, int], told: str, recwarn: Any
) -> None:
    keys(processor, {"type": "image", "image": Image.new("RGB", size)})
    said = [str(warning.message) for warning in recwarn]
    assert len(said) == bool(told)
    assert not told or re.search(told, said[0])
