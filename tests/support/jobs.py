"""Small sources for the converter, and what it makes of them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import tiny

from mlx_gemma4.convert import job
from mlx_gemma4.convert.plan import Plan
from mlx_gemma4.convert.recipes import override
from mlx_gemma4.convert.survey import Wishes

# Widths that groups of 64 divide.
SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128}
TABLE: dict[str, Any] = {**SIZES, "hidden_size_per_layer_input": 32}
MOE: dict[str, Any] = {**SIZES, "moe_intermediate_size": 64}
BY_VARIANT = {"demo": MOE | TABLE, "26B-A4B": MOE, "31B": SIZES, "untied": SIZES}
SHARD = 60_000  # bytes: several files


class Stopped(Exception):
    pass


def stop_after(blocks: int) -> Callable[[int], None]:
    """Breaks the conversion off after so many blocks."""
    left = [blocks]

    def advance(count: int) -> None:
        left[0] -= 1
        if not left[0]:
            raise Stopped

    return advance


def source(folder: Path, variant: str = "demo", **options: Any) -> Path:
    """A bfloat16 Hub folder with a tokenizer."""
    options = {"tokenizer": True, "dtype": mx.bfloat16, **options}
    options |= BY_VARIANT.get(variant, TABLE)
    tiny.write_checkpoint(folder, variant, **options)
    return folder


def plan(
    folder: Path,
    recipe: str = "4bit",
    *overrides: str,
    target: int | None = None,
    name: str = "org/source",
) -> Plan:
    wishes = Wishes(recipe, tuple(override(text) for text in overrides), target)
    return job.plan_folder(folder, wishes, name)


def convert(
    folder: Path, out: Path, recipe: str = "4bit", *overrides: str, **how: Any
) -> job.Result:
    """A whole conversion into several small files."""
    how = {"shard_bytes": SHARD, "advance": lambda count: None, **how}
    name = how.pop("name", "org/source")
    todo = plan(folder, recipe, *overrides, name=name)
    return job.run(folder, out, todo, name, **how)


def converted(
    source: Path, out: Path, recipe: str = "4bit", name: str = "google/gemma-4-E2B-it"
) -> Path:
    """Converts `source` under the name `name`, as a user does. Returns `out`."""
    todo = plan(source, recipe, name=name)
    job.run(source, out, todo, name, lambda count: None)
    return out


def tensors(folder: Path) -> dict[str, mx.array]:
    found: dict[str, mx.array] = {}
    for file in sorted(folder.glob("*.safetensors")):
        stored = mx.load(str(file))
        assert isinstance(stored, dict)
        found |= stored
    return found


def digests(folder: Path) -> dict[str, str]:
    """File -> SHA-256, of a whole folder."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir())
    }


def settings(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())["quantization"]
