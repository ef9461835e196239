"""A repository at the Hub as something to convert: one commit, and its headers."""

import io
from fnmatch import fnmatch
from pathlib import Path

from mlx_gemma4.checkpoint.files import (
    INDEX,
    LENGTH,
    MAX_HEADER,
    SINGLE,
    StoredTensor,
    gathered,
    header_of,
    read_header,
)
from mlx_gemma4.checkpoint.folders import COPIED, weight_map, without_index
from mlx_gemma4.errors import CheckpointError, ModelNotFoundError
from mlx_gemma4.hub.cache import Cache, HubFile
from mlx_gemma4.hub.offer import (
    ask_hub,
    check_small,
    digest_of,
    licence_of,
    top_files,
)
from mlx_gemma4.hub.resolve import HUB_ID
from mlx_gemma4.hub.transfer import Transfer
from mlx_gemma4.reading.listing import listed

from .ranges import Ranges
from .source import Source


def remote(name: str, commit: str | None = None) -> Source:
    """What a Hub repository holds, for the price of its small files and headers.

    name: `org/name`, also `org/name@revision`. commit: what was taken for it before;
        None asks the Hub. All that is read later is of that commit.

    Raises ModelNotFoundError where it cannot be read, CheckpointError where it holds no
    weights that can be converted.
    """
    match = HUB_ID.fullmatch(name)
    if match is None:
        raise ModelNotFoundError(f"{name!r} is no Hub id.")
    repo = match["repo"]
    about = ask_hub(repo, commit or match["revision"] or "main")
    commit = digest_of(about.sha)
    cache = Cache.of(repo, commit)
    files = {file.name: file for file in top_files(about)}
    _fetch_small(repo, cache, files)
    folder, ranges = cache.snapshot, Ranges(repo, commit)
    headers: dict[Path, dict[str, StoredTensor]] = {}
    at_hub: dict[Path, HubFile] = {}
    try:
        for file in _weights(repo, folder, files):
            path = folder / file.name
            if cache.is_here(file):
                cache.link(file)
                headers[path] = read_header(path)
            else:
                headers[path] = _header(ranges, file, path)
                at_hub[path] = file
        tensors = gathered(folder, weight_map(folder), headers)
    except CheckpointError as error:  # said of the repository, not of its cache
        raise CheckpointError(str(error).replace(str(folder), repo)) from None
    return Source(folder, tensors, repo, commit, at_hub, licence_of(about))


def _fetch_small(repo: str, cache: Cache, files: dict[str, HubFile]) -> None:
    """Everything but weights goes to the Hub's cache, as in any download."""
    if "config.json" not in files:
        raise CheckpointError(f"{repo} has no config.json: it is no model.")
    transfer = Transfer(repo, cache, lambda count: None, lambda text: None)
    for name, file in files.items():
        if any(fnmatch(name, pattern) for pattern in COPIED):
            check_small(repo, file)
            transfer.fetch(file)
            cache.link(file)


def _weights(repo: str, folder: Path, files: dict[str, HubFile]) -> list[HubFile]:
    there = sorted(name for name in files if name.endswith(".safetensors"))
    if not there:
        raise CheckpointError(f"{repo} has no safetensors weights.")
    names = sorted(set(weight_map(folder).values()))
    if names and SINGLE in set(there).difference(names):
        raise CheckpointError(
            f"{repo} has more than one set of weights: {SINGLE} and those of {INDEX}."
        )
    names = names or without_index(folder, there)
    if missing := [name for name in names if name not in files]:
        raise CheckpointError(f"{repo} lacks {listed(missing)}: it is incomplete.")
    return [files[name] for name in names]


def _header(ranges: Ranges, file: HubFile, path: Path) -> dict[str, StoredTensor]:
    start = ranges.read(file, 0, min(LENGTH, file.size))
    length = min(int.from_bytes(start, "little"), MAX_HEADER, file.size - len(start))
    rest = ranges.read(file, len(start), length)
    return header_of(path, io.BytesIO(bytes(start + rest)), file.size)
