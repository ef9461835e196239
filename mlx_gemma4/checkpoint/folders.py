"""Which files of a folder are a model's weights, what is there instead, and what a
model made of them needs as well.

An index decides; without one, or with one of files that all are gone, the files' own
names. Two sets of weights in one folder are refused: other programs take one, the other
or both.
"""

import re
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NoReturn

from ..errors import CheckpointError
from ..hub.cache import repository_in
from ..reading.json_file import read_object
from ..reading.listing import listed

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
# Formats that run code when they are opened.
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
UNFINISHED = (
    *("*.incomplete", ".cache/huggingface/download/*.incomplete"),
    *("*.part", "*.partial", "*.aria2", "*.crdownload", "*.download"),
)
ADAPTER = re.compile(r".*adapters?(_model)?\.safetensors")
SHARD = re.compile(r"(.+)-(\d{1,5})-of-(\d{1,5})\.safetensors")
LONGEST_NAME = 255
SPARE = "consolidated"  # the same weights once more, in their makers' own naming
# Beside weights and config.json; other formats of the weights lie in subfolders.
COPIED = ("*.json", "*.jinja", "*.model", "*.txt", "tokenizer*", "LICENSE*", "NOTICE*")
RECORD = "conversion.json"  # checksums of the folder that it lies in
FUSED = "fused.json"  # the files of a model that `tune fuse` wrote
# What tells of the source's weights alone.
NOT_COPIED = (
    *("config.json", RECORD, FUSED, "*.index.json", "*.safetensors"),
    "quant*_config.json",
)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of `folder`, all present and inside it.

    Symbolic links may only lead to the blobs of the same Hub cache entry.
    Raises CheckpointError.
    """
    names = sorted(set(weight_map(folder).values()))
    if not names or stale_index(folder):
        names = without_index(folder, _found(folder, "*.safetensors"))
    elif SINGLE not in names and (folder / SINGLE).exists():
        _refuse_two(folder, [SINGLE, f"those of {INDEX}"])
    for name in names:
        _check_name(folder, name)
        check_inside(folder, name)
    _check_there(folder, names)
    return [folder / name for name in names]


def weight_map(folder: Path) -> dict[str, str]:
    """Tensor -> file as the index states it; empty without an index."""
    path = folder / INDEX
    if not path.is_file():
        return {}
    found = read_object(path).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise CheckpointError(f"{path} has no weight_map.")
    if wrong := [name for name, file in found.items() if not isinstance(file, str)]:
        raise CheckpointError(f"{path} names no file for {listed(wrong)}.")
    return found


def stale_index(folder: Path) -> bool:
    """Whether one whole file stands in place of all that the index names: a model that
    was saved anew in a copy of its original's folder."""
    names = set(weight_map(folder).values())
    there = any(_exists(folder / name) for name in names)
    return bool(names) and not there and (folder / SINGLE).exists()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def again(folder: Path) -> str:
    """The command that downloads what a folder lacks."""
    if folder.parent.name == "snapshots":
        return f"`hf download {repository_in(folder.parent.parent)}`"
    return f"`hf download ORGANISATION/NAME --local-dir {folder}`"


def instead_of_model(folder: Path) -> str | None:
    """What a folder holds in place of a model's weights, and the remedy."""
    if unfinished := _found(folder, *UNFINISHED):
        return (
            f"The download into {folder} has not ended ({listed(unfinished)}): go on "
            f"with {again(folder)}."
        )
    adapters = [n for n in _found(folder, "*.safetensors") if ADAPTER.fullmatch(n)]
    if adapters:
        return (
            f"{folder} holds an adapter ({listed(adapters)}), not a model: give its "
            "base model with --model, and this folder with --adapter."
        )
    if ggufs := _found(folder, "*.gguf"):
        return (
            f"{folder} has weights only as {listed(ggufs)}, llama.cpp's format, which "
            "is not read: use the original model, or an MLX conversion of it."
        )
    if pickles := _found(folder, *PICKLES):
        return (
            f"{folder} has weights only as {listed(pickles)}. Such files can run code "
            "and are not read: use a safetensors version of the model."
        )
    return None


def _found(folder: Path, *patterns: str) -> list[str]:
    return sorted(path.name for p in patterns for path in folder.glob(p))


def without_index(folder: Path, there: Iterable[str]) -> list[str]:
    """The one set of weights in `folder`, complete by its own numbering.

    there: the safetensors files. Raises CheckpointError for no set, or several.
    """
    sets = defaultdict[tuple[str, int], list[str]](list)
    for name in there:
        shard = SHARD.fullmatch(name)
        if not (ADAPTER.fullmatch(name) or name.startswith(".")):
            sets[(shard[1], int(shard[3])) if shard else (name, 0)].append(name)
    # What loads a model by its usual name passes over the rest.
    usual = {key: names for key, names in sets.items() if key[0].startswith("model")}
    other = {key: names for key, names in sets.items() if not key[0].startswith(SPARE)}
    chosen = usual or other or sets
    if not chosen:
        raise CheckpointError(
            instead_of_model(folder)
            or f"{folder} has no weights ({SINGLE} or {INDEX}): use {again(folder)}."
        )
    if len(chosen) > 1:
        _refuse_two(folder, [names[0] for names in chosen.values()])
    (((stem, count), names),) = chosen.items()
    return _all_shards(stem, count, names) if count else names


def _all_shards(stem: str, count: int, names: list[str]) -> list[str]:
    """The names of a numbered set, whether there or not; numbers start at 1 or 0."""
    numbers = {int(match[2]): n for n in names if (match := SHARD.fullmatch(n))}
    first = 0 if 0 in numbers and count not in numbers else 1
    return [
        numbers.get(i, f"{stem}-{i:05d}-of-{count:05d}.safetensors")
        for i in range(first, first + count)
    ]


def _refuse_two(folder: Path, sets: list[str]) -> NoReturn:
    raise CheckpointError(
        f"{folder} has more than one set of weights: {' and '.join(sets)}. Move away "
        "all but the one to be used."
    )


def _check_there(folder: Path, names: list[str]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    others = [n for n in _found(folder, "*.safetensors") if not ADAPTER.fullmatch(n)]
    if missing == names and others and (folder / INDEX).is_file():
        raise CheckpointError(
            f"{folder / INDEX} is of other files than are there: it names "
            f"{listed(names)}, but there is {listed(others)}. If that is the whole "
            f"model, remove the index; if not, download it again: {again(folder)}."
        )
    if missing:
        raise CheckpointError(
            f"{folder} lacks {listed(missing)}. Download the model again: "
            f"{again(folder)}."
        )


def _check_name(folder: Path, name: str) -> None:
    if len(name) > LONGEST_NAME:
        raise CheckpointError(
            f"{folder / INDEX} names a file with {len(name)} characters: none can have "
            "as many."
        )
    parts = PurePosixPath(name)
    absolute = parts.is_absolute() or PureWindowsPath(name).anchor
    if absolute or ".." in parts.parts or "\\" in name:
        _refuse_outside(folder, name)
    if parts.suffix != ".safetensors":
        raise CheckpointError(
            f"{folder / INDEX} names {name!r}; weights must be .safetensors files."
        )


def check_inside(folder: Path, name: str) -> None:
    """Raises CheckpointError for a file of `folder` that is a link out of it.

    Links to the blobs of the same Hub cache entry are not.
    """
    root = folder.resolve()
    allowed = [root]
    for place in (root, root.parent):  # a snapshot, or a drafter's folder in one
        if place.parent.name == "snapshots":  # the Hub's cache links files to its blobs
            allowed.append(place.parent.parent / "blobs")
    try:
        target = (root / name).resolve()
    except (OSError, ValueError, RuntimeError):  # too long; half a character; a loop
        _refuse_outside(folder, name)
    if not any(target.is_relative_to(place) for place in allowed):
        _refuse_outside(folder, name)


def _refuse_outside(folder: Path, name: str) -> NoReturn:
    raise CheckpointError(f"{folder}: {name!r} leads out of the model's folder.")


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
