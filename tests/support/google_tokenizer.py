"""Google's tokenizer.json, which is not part of this repository."""

import json
import lzma
import os
from pathlib import Path
from typing import Any

import pytest

# As in the model's tokenizer_config.json.
NAMES = {
    "tokenizer_class": "GemmaTokenizer",
    **{f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk", "mask")},
    "extra_special_tokens": ["<|video|>"],
}


def google_tokenizer() -> bytes | None:
    """The content of tokenizer.json, where it is at hand."""
    source = Path(os.environ.get("GEMMA4_TOKENIZER", ""))
    if not source.is_file():
        return None
    data = source.read_bytes()
    return lzma.decompress(data) if source.suffix == ".xz" else data


def unpack(folder: Path) -> Path:
    """Put the files of a tokenizer into `folder`; skips where there is none."""
    if (data := google_tokenizer()) is None:
        pytest.skip(
            "needs Google's tokenizer: set GEMMA4_TOKENIZER to its tokenizer.json, "
            "which may be packed as .xz"
        )
    (folder / "tokenizer.json").write_bytes(data)
    (folder / "tokenizer_config.json").write_text(json.dumps(NAMES))
    return folder


def with_processor(source: Path, folder: Path, added: Any) -> Path:
    """A copy that puts something else round a text: `added` is its post_processor."""
    data = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    data["post_processor"] = added
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(NAMES))
    return folder
