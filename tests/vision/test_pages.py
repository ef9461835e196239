"""Documents of several pages: every page is seen, or none and an error says why."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import pdf
from PIL import Image

from mlx_gemma4.errors import MediaError, install_command
from mlx_gemma4.vision import pages
from mlx_gemma4.vision.pages import open_pages

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
NAMES = {RED: "1 0 0", GREEN: "0 1 0", BLUE: "0 0 1"}


def tiff(colours: list[tuple[int, int, int]], **options: Any) -> bytes:
    out = io.BytesIO()
    first, *rest = [Image.new("RGB", (8, 6), colour) for colour in colours]
    first.save(out, "TIFF", save_all=True, append_images=rest, **options)
    return out.getvalue()


def colours(source: Any) -> list[tuple[int, ...]]:
    """The colour of each page near its left edge."""
    found = []
    for page in open_pages(source):
        assert page.mode == "RGB"
        found.append(tuple(np.asarray(page)[1, 1].tolist()))
    return found


def made_pdf(*wanted: tuple[int, int, int], **options: Any) -> bytes:
    pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
    return pdf(*(NAMES[colour] for colour in wanted), **options)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
def test_every_page_of_a_tiff(compression: str | None, tmp_path: Path) -> None:
    data = tiff([RED, GREEN, BLUE], compression=compression)
    (tmp_path / "scan.png").write_bytes(data)
    for source in (data, tmp_path / "scan.png", str(tmp_path / "scan.png")):
        np.testing.assert_allclose(colours(source), [RED, GREEN, BLUE], atol=3)


def test_every_page_of_a_pdf(tmp_path: Path) -> None:
    data = made_pdf(RED, GREEN, BLUE)
    (tmp_path / "paper.png").write_bytes(data)
    for source in (data, tmp_path / "paper.png", str(tmp_path / "paper.png")):
        assert colours(source) == [RED, GREEN, BLUE]


def test_other_pictures_have_one_page() -> None:
    picture = Image.new("RGB", (3, 3), RED)
    assert colours(picture) == colours(tiff([RED])) == [RED]


@pytest.mark.parametrize(("tag", "value"), [(254, 1), (254, 4), (255, 2)])
def test_what_is_no_page_of_a_tiff(tag: int, value: int) -> None:
    """A smaller copy of a page, which cameras and scanners add, and a mask."""
    out = io.BytesIO()
    small = Image.new("RGB", (4, 3), BLUE)
    small.encoderinfo = {"tiffinfo": {tag: value}}
    page = Image.new("RGB", (8, 6), RED)
    page.save(out, "TIFF", save_all=True, append_images=[small])
    assert getattr(Image.open(out), "n_frames", 1) == 2
    assert colours(out.getvalue()) == [RED]


@pytest.mark.parametrize(
    ("size", "drawn"),
    [
        ((612, 792), (1758, 2275)),  # Letter
        ((72, 72), (300, 300)),  # no finer than 300 to the inch
        ((14400, 14400), (2000, 2000)),
        ((14400, 10), (40000, 28)),
    ],
)
def test_pixels_of_a_page_are_bounded(
    size: tuple[int, int], drawn: tuple[int, int]
) -> None:
    (page,) = open_pages(made_pdf(RED, size=size))
    np.testing.assert_allclose(page.size, drawn, atol=1)
    assert page.width * page.height <= 1.01 * pages.PAGE_PIXELS


def test_a_form_is_seen_filled() -> None:
    """What was typed into a field; here it looks like the second page."""
    data = made_pdf(RED, BLUE, size=(100, 100)).decode()
    field = (
        "7 0 obj\n<</Type/Annot/Subtype/Widget/FT/Tx/T(a)/V(b)/F 4"
        "/Rect[50 0 100 100]/AP<</N 6 0 R>>>>\nendobj\n"
    )
    for there, instead in (
        ("/Pages 2", "/AcroForm<</Fields[7 0 R]>>/Pages 2"),
        ("/Contents 4", "/Annots[7 0 R]/Contents 4"),
        ("6 0 obj\n<<", "6 0 obj\n<</Type/XObject/Subtype/Form/BBox[0 0 50 100]"),
        ("xref\n0 7", f"{field}xref\n0 7"),
    ):
        assert there in data
        data = data.replace(there, instead)
    page = next(open_pages(data.encode()))
    assert page.getpixel((5, 50)) == RED and page.getpixel((300, 50)) == BLUE


@pytest.mark.parametrize("make", [made_pdf, lambda *colours: tiff(list(colours))])
def test_too_many_pages(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST_PAGES", 2)
    assert len(colours(make(RED, BLUE))) == 2
    with pytest.raises(MediaError, match="has 3 pages; at most 2 can.*split it"):
        next(open_pages(make(RED, BLUE, GREEN)))


def test_without_pypdfium2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    (tmp_path / "a.pdf").write_bytes(pdf("1 0 0"))
    with pytest.raises(MediaError, match=r"a\.pdf is a PDF.*needs") as error:
        next(open_pages(tmp_path / "a.pdf"))
    assert str(error.value).endswith(install_command("media"))


def test_a_password(tmp_path: Path) -> None:
    """Refused with the remedy. The encryption is only claimed: that is asked first."""
    crypt = (
        "/Encrypt<</Filter/Standard/V 1/R 2/P -4/Length 40"
        f"/O<{'00' * 32}>/U<{'11' * 32}>>>/ID[<{'22' * 16}><{'22' * 16}>]"
    )
    data = made_pdf(RED).replace(b"/Root", crypt.encode() + b"/Root")
    with pytest.raises(MediaError, match="needs a password: save it without one"):
        colours(data)


@pytest.mark.parametrize("make", [made_pdf, lambda *colours: tiff(list(colours))])
def test_damage(make: Any) -> None:
    """Cut, or with bytes changed: pages or MediaError, nothing else."""
    whole, draw = make(RED, GREEN, BLUE), np.random.RandomState(2)
    refused = 0
    for n in range(60):
        data = bytearray(whole)
        if n % 2:
            del data[draw.randint(1, len(data)) :]
        for at in draw.randint(0, len(data), draw.randint(1, 12)):
            data[at] = draw.randint(256)
        try:
            assert all(page.mode == "RGB" for page in open_pages(bytes(data)))
        except MediaError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 10
