"""Picture files for tests, as bytes."""

import io
import struct
import zlib

from PIL import Image


def claiming_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, data, b"IEND")
    )


RED = (255, 0, 0)


def encoded(kind: str, width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), RED).save(out, kind)
    return out.getvalue()


FONT = "/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>"


def pdf(*colours: str, size: tuple[int, int] = (200, 100)) -> bytes:
    """A PDF of a page for each colour ("1 0 0" is red), its left half in it."""
    half = f"0 0 {size[0] / 2} {size[1]} re f"
    return drawn_pdf([f"{colour} rg {half}" for colour in colours], size)


def written_pdf(*texts: str) -> bytes:
    """A PDF of a page for each text."""
    return drawn_pdf([f"BT /F 12 Tf 10 50 Td ({text}) Tj ET" for text in texts])


def drawn_pdf(pages: list[str], size: tuple[int, int] = (200, 100)) -> bytes:
    """A PDF of a page for each list of drawing operators."""
    kids = " ".join(f"{2 * n + 3} 0 R" for n in range(len(pages)))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>",
    ]
    for n, drawn in enumerate(pages):
        box = f"/MediaBox[0 0 {size[0]} {size[1]}]{FONT}"
        contents = f"/Contents {2 * n + 4} 0 R"
        objects.append(f"<</Type/Page/Parent 2 0 R{box}{contents}>>")
        objects.append(f"<</Length {len(drawn)}>>\nstream\n{drawn}\nendstream")
    out, places = b"%PDF-1.7\n", []
    for number, text in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{text}\nendobj\n".encode()
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    count, start = len(objects) + 1, len(out)
    out += f"xref\n0 {count}\n0000000000 65535 f \n{table}".encode()
    return out + (
        f"trailer\n<</Size {count}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n".encode()
    )


def png(width: int = 8, height: int = 6) -> bytes:
    return encoded("PNG", width, height)
