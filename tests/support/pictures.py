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


def png(width: int = 8, height: int = 6) -> bytes:
    return encoded("PNG", width, height)
