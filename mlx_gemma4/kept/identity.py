"""What a kept prompt belongs to: one model, read in one way."""

import hashlib
import json
from pathlib import Path

from .. import __version__
from ..checkpoint.files import LENGTH, MAX_HEADER
from ..checkpoint.folders import weight_files
from ..model import Gemma4
from ..prompt.processor import Processor
from ..reading.home import with_home

# What decides, beside the weights, which tokens and media a conversation becomes.
SMALL = ("config.json", "processor_config.json", "tokenizer_config.json")


def identity_of(
    folder: Path, model: Gemma4, processor: Processor, adapter: Path | None = None
) -> str:
    """A digest of all that decides what `model` makes of a prompt: this program's
    version, the type it computes in, its template, and its files, the large ones by
    header, size and time alone.

    folder: of the model's files. adapter: the folder of one that is on it.
    Raises OSError and CheckpointError.
    """
    dtype = str(model.language_model.norm.weight.dtype)
    template = processor.template.source if processor.template else None
    stated: list[object] = [__version__, dtype, template]
    stated += [_content(folder / name) for name in SMALL]
    stated += [(*_stamp(file), _header(file)) for file in weight_files(folder)]
    stated.append(_stamp(folder / "tokenizer.json"))
    if adapter is not None:
        stated += [_stamp(file) for file in sorted(with_home(adapter).iterdir())]
    return hashlib.sha256(json.dumps(stated).encode()).hexdigest()


def _stamp(file: Path) -> tuple[str, int, int]:
    about = file.stat()
    return file.name, about.st_size, about.st_mtime_ns


def _content(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None


def _header(file: Path) -> str:
    with file.open("rb") as stream:
        length = stream.read(LENGTH)
        most = min(int.from_bytes(length, "little"), MAX_HEADER)
        return hashlib.sha256(length + stream.read(most)).hexdigest()
