"""The files beside a checkpoint's weights that a model made of it needs as well."""

import shutil
from pathlib import Path

from .folders import check_inside

# Beside weights and config.json; other formats of the weights lie in subfolders.
COPIED = ("*.json", "*.jinja", "*.model", "*.txt", "tokenizer*", "LICENSE*", "NOTICE*")
RECORD = "conversion.json"  # checksums of the folder that it lies in
FUSED = "fused.json"  # the files of a model that `tune fuse` wrote
# What tells of the source's weights alone.
NOT_COPIED = (
    *("config.json", RECORD, FUSED, "*.index.json", "*.safetensors"),
    "quant*_config.json",
)


def files_to_copy(source: Path) -> list[str]:
    """Tokenizer, template, processor and generation files, by name.

    Raises CheckpointError for one that is a link out of `source`: nobody who converts a
    model means to publish another file of his own under the name of its licence.
    """
    names = {path.name for p in COPIED for path in source.glob(p) if path.is_file()}
    copied = [
        name
        for name in sorted(names)
        if not any(Path(name).match(pattern) for pattern in NOT_COPIED)
    ]
    for name in copied:
        check_inside(source, name)
    return copied


def copy_files(source: Path, folder: Path) -> None:
    """Copies those files as they are. Raises CheckpointError as `files_to_copy`."""
    for name in files_to_copy(source):
        shutil.copyfile(source / name, folder / name)
