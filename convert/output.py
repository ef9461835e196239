"""The folder around the weights, and the moment it becomes one.

Everything is written to `OUT.partial/model`, which takes the name OUT when it is
complete: a folder called OUT is always a whole model.
"""

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlx_gemma4.checkpoint.files import INDEX
from mlx_gemma4.checkpoint.folders import copy_files
from mlx_gemma4.checkpoint.packing import Packing
from mlx_gemma4.checkpoint.shards import Shard, index_of
from mlx_gemma4.config import AssistantConfig
from mlx_gemma4.config.quantization import KEYS as QUANTIZATION
from mlx_gemma4.errors import DiskFullError, TakenError
from mlx_gemma4.hub.cache import hub_cache
from mlx_gemma4.prompt.processor import Processor
from mlx_gemma4.reading.sizes import existing, free_space, size
from mlx_gemma4.state import sync

from .card import CARD, RECORD, write_card
from .check import digest
from .classes import KEPT
from .drafters import read_config
from .errors import OutputError
from .journal import Journal, plan_digest
from .plan import Line, Plan, TensorPlan
from .writer import explained

CONFIG = "config.json"
NEEDED = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
USUAL_VOCABULARY = 262_144  # what mlx-lm takes where the top level states none
FLOAT_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def partial(out: Path) -> Path:
    """Where the work towards `out` goes on."""
    return out.with_name(out.name + ".partial")


def check_out(out: Path) -> None:
    """Where a finished model could not take the name `out`.

    Raises TakenError where something is there, OutputError where nothing can be made.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise TakenError(f"{out} exists and is no folder: choose another name.")
    if out.is_dir() and any(out.iterdir()):
        raise TakenError(f"{out} is not empty: choose another name, or remove it.")
    if out.is_dir() and os.path.ismount(out):
        raise TakenError(f"{out} is a mount point: name a folder inside it.")
    place = _existing(out)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(f"{place} cannot be written: choose another place.")


def is_result(out: Path, plan: Plan, sources: Mapping[str, list[Any]]) -> bool:
    """Whether `out` already is the complete result of this conversion."""
    try:
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
        same = record["plan"] == plan_digest(plan)
        # Files that were copied since have other times; their contents decide.
        digests = {name: print_[2] for name, print_ in sources.items()}
        return same and record["source_digests"] == digests
    except (OSError, ValueError, KeyError, TypeError):
        return False


def check_space(out: Path, needed: int) -> None:
    """Raises DiskFullError if the disk of `out` has no room for the rest of the result.

    needed: bytes of the whole result; what an earlier run left counts as written.
    """
    _check_room(out, _rest(out, needed), "of result")


def check_download(out: Path, needed: int, downloads: int) -> None:
    """The same with `downloads` bytes that go to the Hub's cache before."""
    cache, rest = hub_cache(), _rest(out, needed)
    if _device(_existing(cache)) == _device(_existing(out)):
        what = f"of result and {size(downloads)} of download"
        _check_room(out, rest + downloads, what, shown=rest)
        return
    _check_room(cache, downloads, "of download")
    _check_room(out, rest, "of result")


def _rest(out: Path, needed: int) -> int:
    folder = partial(out) / "model"
    # st_blocks: a file of its final size may still be mostly holes.
    files = folder.iterdir() if folder.is_dir() else ()
    return max(0, needed - sum(file.stat().st_blocks * 512 for file in files))


def _existing(path: Path) -> Path:
    """The folder above `path` that is there already."""
    return existing(path.absolute().parent)


def _device(place: Path) -> int:
    return place.stat().st_dev


def _check_room(path: Path, wanted: int, what: str, shown: int | None = None) -> None:
    place = _existing(path)
    free = free_space(path)
    if wanted > free:
        raise DiskFullError(
            f"The disk is too small: {size(wanted if shown is None else shown)} {what} "
            f"do not fit into the {size(free)} that are free at {place}."
        )


def finish(
    source: Path,
    out: Path,
    plan: Plan,
    shards: Iterable[Shard],
    journal: Journal,
    record: Mapping[str, Any],
) -> None:
    """Completes the folder and gives it its name.

    record: what else `conversion.json` shall say of the source.
    """
    folder = partial(out) / "model"
    with explained(partial(out)):
        copy_files(source, folder)
        _write_json(folder / INDEX, index_of(shards))
        config = json.loads((source / CONFIG).read_text(encoding="utf-8"))
        _write_json(folder / CONFIG, out_config(config, plan))
        files = {
            path.name: journal.files.get(path.name) or digest(path)
            for path in sorted(folder.iterdir())
            if path.name not in (RECORD, CARD)
        }
        _write_json(
            folder / RECORD,
            {
                "version": 1,
                **record,
                "recipe": plan.recipe,
                "qat": plan.qat,
                "plan": plan_digest(plan),
                "bits_per_weight": round(plan.bits_per_weight, 4),
                "classes": classes(plan, journal),
                "files": files,
            },
        )
        write_card(folder, None)
    read_config(folder)
    with explained(partial(out)):
        for path in folder.iterdir():  # the name must not come before the contents
            sync(path)
        sync(folder)
        os.replace(folder, out)  # an empty folder of that name is replaced
        sync(out.absolute().parent)
        journal.close()
        shutil.rmtree(partial(out))


def check_files(folder: Path) -> list[str]:
    """What a user should know about the files beside a source's weights.

    Raises CheckpointError if the result could not be loaded with them.
    """
    config = read_config(folder)
    if isinstance(config, AssistantConfig):  # it needs nothing but its weights
        return []
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    warnings = [f"The source has no {name}." for name in missing]
    if config.vision_config and not (folder / "processor_config.json").is_file():
        warnings.append(
            "The source has no processor_config.json: mlx-vlm reads no pictures then."
        )
    if "tokenizer.json" in missing:
        return warnings
    template = Processor.from_folder(folder, config).template
    if template is None:
        warnings.append("The source has no chat template: only raw prompts will work.")
    elif template.stale:
        warnings.append(template.stale)
    return warnings


def out_config(config: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """The source's config.json with the quantisation of every path."""
    result = {k: v for k, v in config.items() if k not in QUANTIZATION}
    for name in plan.unclipped:
        result[name] = {**config[name], "use_clipped_linears": False}
    floats = _dtype(plan)
    for section in (result, result.get("text_config")):
        for key in ("dtype", "torch_dtype"):
            if isinstance(section, dict) and key in section:
                section[key] = floats
    text = config.get("text_config")
    if isinstance(text, dict) and text.get("vocab_size") != USUAL_VOCABULARY:
        result["vocab_size"] = text["vocab_size"]  # mlx-lm does not look inside
    if settings := quantization(plan):
        # Peers read one or the other.
        result |= {"quantization": settings, "quantization_config": settings}
    return result


def quantization(plan: Plan) -> dict[str, Any]:
    """The commonest packing, and every path that has another."""
    weights: dict[Packing, int] = defaultdict(int)
    for tensor in plan.tensors:
        if tensor.packing is not None:
            weights[tensor.packing] += tensor.params
    if not weights:
        return {}
    default = max(weights, key=lambda packing: weights[packing])
    paths: dict[str, Any] = {}
    for tensor in plan.tensors:
        for module in tensor.modules:
            if tensor.packing not in (None, default):
                paths[module] = vars(tensor.packing)
            elif tensor.packing is None and _is_quantisable(tensor):
                paths[module] = False
    return {**vars(default), **paths}


def _is_quantisable(tensor: TensorPlan) -> bool:
    """Matrices that a loader would otherwise take to be quantised."""
    matrix = len(tensor.shape) >= 2 and tensor.kind not in KEPT
    return matrix and tensor.paths[0].endswith(".weight")


def _dtype(plan: Plan) -> str:
    params: dict[str, int] = defaultdict(int)
    for tensor in plan.tensors:
        params[tensor.dtype] += tensor.params
    return FLOAT_NAMES.get(max(params, key=lambda name: params[name]), "bfloat16")


def classes(plan: Plan, journal: Journal) -> list[dict[str, Any]]:
    """The plan's table with what was counted on the way."""
    table = []
    for line in plan.table:
        done = [journal.tensors[tensor.name] for tensor in line.tensors]
        counted = {
            "on_grid_groups": sum(tensor.on_grid for tensor in done),
            "groups": sum(tensor.groups for tensor in done),
        }
        table.append(describe(line) | counted)
    return table


def describe(line: Line) -> dict[str, Any]:
    """A line of the table as JSON."""
    packing = line.packing
    return {
        "kind": line.kind,
        "bits": packing.bits if packing else None,
        "group_size": packing.group_size if packing else None,
        "mode": packing.mode if packing else None,
        "dtype": line.dtype,
        "grid": line.grid,
        "tensors": len(line.tensors),
        "params": line.params,
        "source_bytes": line.source_bytes,
        "bytes": line.out_bytes,
        "bits_per_weight": round(line.bits_per_weight, 4),
    }


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
