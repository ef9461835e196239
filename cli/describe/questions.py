"""What is asked about pictures and videos, and what cannot be."""

from collections import Counter
from pathlib import Path
from typing import Any

from mlx_gemma4.errors import MediaError

Part = dict[str, Any]
OCR = (
    "Write down all text in this image exactly as it stands, line by line, in its own "
    "language and spelling. Leave nothing out, add nothing, explain nothing."
)


def check_drawable(label: str, parts: list[Part]) -> None:
    """Raises MediaError for what no boxes can be drawn on."""
    if parts[0]["type"] != "image":
        raise MediaError(f"{label} is a video; --boxes draws on pictures.")
    if is_document(parts):
        raise MediaError(
            f"{label} has several pages; --boxes draws on one picture: save the page "
            "that is meant as PNG."
        )


def is_document(parts: list[Part]) -> bool:
    """Whether the only file has several pages: only of such its pixels are not kept."""
    return len(parts) == 1 and isinstance(parts[0].get("image"), Path | bytes)


def default_prompt(parts: list[Part], ocr: bool) -> str:
    """What is asked when nothing was."""
    asked = OCR if ocr else _describe(parts)
    return asked.replace("this image", "these pages") if is_document(parts) else asked


def _describe(parts: list[Part]) -> str:
    counts = Counter(part["type"] for part in parts)
    kinds = [kind for kind in ("image", "video") if counts[kind]]
    if counts.total() == 1:
        return f"Describe this {kinds[0]}."
    return f"Describe these {' and '.join(f'{kind}s' for kind in kinds)}."
