"""Documents to pictures: the pages of a PDF or TIFF, one by one.

All of a document or none of it: a page that nobody saw is worse than an error.
"""

import contextlib
import math
import threading
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from ..errors import MediaError, install_command
from ..reading.sources import open_source, source_name
from .images import (
    PictureSource,
    decoding,
    is_pdf,
    loaded,
    open_image,
    opened,
    opened_heif,
)

MOST_PAGES = 50
# What a page is drawn with: 4 million pixels are more than the largest budget of soft
# tokens can show of it, and no page is drawn finer than 300 to the inch.
PAGE_PIXELS = 4_000_000
FINEST = 300 / 72  # pixels for each point of a PDF
# In a TIFF a frame that is no page: a smaller copy, or a mask (its tag 254).
COPY, MASK = 1, 4
SMALLER_COPY = 2  # of the older tag 255
LONG = 3  # times as high as wide, a picture is no photo
READABLE = 1 / 3  # a picture shrunk to less has lost its text
PDFIUM = threading.Lock()  # the library may be used by one thread at a time


def warn_of_shrinking(
    image: Image.Image, shown: tuple[int, int], largest: bool
) -> None:
    """Warns where a tall picture, such as the screenshot of a whole page, is made so
    small that its text is gone. Other shapes, photos and panoramas, keep what matters.

    `shown`: height and width that `target_size` gives; largest: no budget is larger.
    """
    if image.height < LONG * image.width or shown[1] >= READABLE * image.width:
        return
    remedy = "Cut" if largest else "Take a larger budget of image tokens, or cut"
    warnings.warn(
        f"A picture of {image.width} x {image.height} pixels is seen as {shown[1]} x "
        f"{shown[0]}: small text in it cannot be read. {remedy} it into shorter "
        "pictures.",
        stacklevel=2,
    )


def open_pages(source: PictureSource) -> Generator[Image.Image]:
    """The pages of a PDF or TIFF, each as `open_image` gives a picture; of any other
    picture that one.

    A page of a PDF is drawn with at most PAGE_PIXELS pixels, its form fields filled.
    Raises MediaError as `open_image` does; for more than MOST_PAGES pages, for a
    PDF without the extra `media`, and for one with a password.
    """
    if isinstance(source, str | Path | bytes):
        name = source_name(source, "picture")
        file, _ = open_source(source, "picture")
        try:
            pages = _tiff_pages(file, name)
        except UnidentifiedImageError:
            if is_pdf(file):
                yield from _pdf_pages(file, name)
                return
            pages = {}
        if len(pages) > 1:
            for number in checked(list(pages), name):
                yield _tiff_page(file, number, f"{name}, page {number + 1},")
            return
        source = file if isinstance(file, bytes) else source
    yield open_image(source)


def page_sizes(source: PictureSource) -> list[tuple[int, int]]:
    """Width and height of what `open_pages` gives, not turned upright, without decoding
    a pixel; nothing where that cannot be told, or something is wrong with it, which
    `open_pages` says."""
    if isinstance(source, Image.Image):
        return [source.size]
    if not isinstance(source, str | Path | bytes):
        return []
    file, name = open_source(source, "picture")
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with opened(file) as image:
                size = image.size
        except UnidentifiedImageError:
            if is_pdf(file):
                with _document(file, name) as document, PDFIUM:
                    return [_drawn_size(page) for page in document]
            with opened_heif(file) as image:
                return [image.size]
        return list(_tiff_pages(file, name).values()) or [size]
    return []


def checked(numbers: list[int], name: str) -> list[int]:
    if len(numbers) > MOST_PAGES:
        raise MediaError(
            f"{name} has {len(numbers)} pages; at most {MOST_PAGES} can be seen at "
            "once: split it, and ask about its parts."
        )
    return numbers


def _tiff_pages(file: Path | bytes, name: str) -> dict[int, tuple[int, int]]:
    """Numbers of the frames of a TIFF that are pages, and their width and height; none
    for other pictures.

    Raises UnidentifiedImageError for what Pillow does not know.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = opened(file)
        except UnidentifiedImageError:
            raise
        except Exception:
            return {}  # open_image says what is wrong
    pages: dict[int, tuple[int, int]] = {}
    with image, decoding(name):
        if image.format != "TIFF":
            return {}
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            tags: Any = getattr(image, "tag_v2", {})
            if not tags.get(254, 0) & (COPY | MASK) and tags.get(255) != SMALLER_COPY:
                pages[number] = image.size
    return pages


def _tiff_page(file: Path | bytes, number: int, name: str) -> Image.Image:
    with decoding(name), opened(file, ("TIFF",)) as image:
        image.seek(number)
        return loaded(image, name)


def pdf_texts(file: Path) -> list[str]:
    """What a PDF says, page by page; "" for a page that is a scan, or empty.

    Raises MediaError as `open_pages` does, but for the number of pages.
    """
    texts: list[str] = []
    with _document(file, source_name(file, "picture")) as document:
        for number in range(len(document)):
            with PDFIUM:
                text = document[number].get_textpage().get_text_bounded()
            texts.append(text.replace("\r\n", "\n").strip())
    return texts


def _pdf_pages(file: Path | bytes, name: str) -> Iterator[Image.Image]:
    with _document(file, name) as document:
        for number in checked(list(range(len(document))), name):
            with PDFIUM:
                page = _drawn(document[number])
            yield page


@contextlib.contextmanager
def _document(file: Path | bytes, name: str) -> Iterator[Any]:
    """A PDF that has pages, as pypdfium2 opens it. Raises MediaError with `name`."""
    try:
        import pypdfium2  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MediaError(
            f"{name} is a PDF document. Reading its pages needs pypdfium2: "
            f"{install_command('media')}"
        ) from error
    try:
        with PDFIUM:
            document = pypdfium2.PdfDocument(file)
            document.init_forms()
        try:
            if len(document) == 0:
                raise MediaError(f"{name} has no pages.")
            yield document
        finally:
            with PDFIUM:
                document.close()
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise MediaError(
                f"{name} needs a password: save it without one, for example with "
                "Preview or qpdf --decrypt."
            ) from error
        raise MediaError(
            f"{name} is damaged or incomplete ({error}); get the file again."
        ) from error


def _drawn(page: Any) -> Image.Image:
    return page.render(scale=_scale(page)).to_pil().convert("RGB")


def _drawn_size(page: Any) -> tuple[int, int]:
    width, height = page.get_size()
    scale = _scale(page)
    return math.ceil(width * scale), math.ceil(height * scale)


def _scale(page: Any) -> float:
    width, height = page.get_size()  # in points, as it is turned
    scale = min(FINEST, (PAGE_PIXELS / max(width * height, 1)) ** 0.5)
    # So thin a page would still be as long as it likes.
    return min(scale, PAGE_PIXELS / 100 / max(width, height, 1))
