"""What `gemma4 bench --share` writes: figures for others, and no paths."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mlx_gemma4.bench.timing import Series
from mlx_gemma4.doctor.machine import Machine
from mlx_gemma4.state import save_text

from ..render import json_text
from .report import Facts, as_json

FORM = 1  # of the file; rises when fields change their meaning
SINGLE = ("runs", "warm_up")  # of each result: medians and ranges are enough


def write(
    facts: Facts, found: Mapping[int, Sequence[Series]], machine: Machine
) -> Path:
    """Put the figures into a new file of the current folder. Raises OSError."""
    words = f"{machine.chip or facts.device} {public_name(facts.model)}"
    name = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    file = Path(f"gemma4-bench-{name[:80]}-{datetime.now():%Y%m%d-%H%M%S}.json")
    save_text(file, json_text(content(facts, found, machine), indent=1) + "\n")
    return file


def content(
    facts: Facts, found: Mapping[int, Sequence[Series]], machine: Machine
) -> dict[str, Any]:
    """As `--json` has it, without single runs; and the machine."""
    figures = as_json(facts, found)
    for context in figures["contexts"]:
        context["results"] = [
            {key: value for key, value in result.items() if key not in SINGLE}
            for result in context["results"]
        ]
    about = {
        "chip": machine.chip,
        "cores": machine.cores,
        "memory": machine.memory,
        "working_set": machine.working_set,
        "system": machine.system,
        "python": machine.versions["python"],
    }
    return {
        "gemma4_bench": FORM,
        **figures,
        "model": public_name(facts.model),
        "machine": about,
    }


def public_name(model: str) -> str:
    """A Hub id as it is; of a folder its own name, without where it lies."""
    folder = Path(model).expanduser()
    return folder.resolve().name if folder.is_dir() else model
