"""The files beside a checkpoint's weights that a model made of it needs as well."""

import shutil
from pathlib import Path

# Beside weights and config.json; other formats of the weights lie in subfolders.
COPIED = ("*.json", "*.jinja", "*.model", "*.txt", "tokenizer*", "LICENSE*", "NOTICE*")
RECORD = "conversion.json"  # checksums of the folder that it lies in
# What tells of the source's weights alone.
NOT_COPIED = (
    *("config.json", RECORD, "*.index.json", "*.safetensors"),
    "quant*_config.json",
)


def copy_files(source: Path, folder: Path) -> None:
    """Tokenizer, template, processor and generation files, as they are."""
    names = {path.name for p in COPIED for path in source.glob(p) if path.is_file()}
    for name in sorted(names):
        if not any(Path(name).match(pattern) for pattern in NOT_COPIED):
            shutil.copyfile(source / name, folder / name)
