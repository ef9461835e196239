"""`GEMMA4_KERNELS=auto`: the kernels that a benchmark found to be faster here.

`gemma4 bench` measures and remembers them; a model that is loaded recalls them. An
answer depends on the chip, the versions of MLX and of this project, and the shapes and
packing of the weights; one is kept for each chip and model, of the versions measured
last. It holds for the whole process: the last model loaded decides.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..config import TextConfig
from ..state import save_text, state_folder
from . import launch

Note = Callable[[str], None]


@dataclass(frozen=True)
class Conditions:
    """What a measurement of the kernels holds for."""

    chip: str
    mlx: str
    mlx_gemma4: str
    kernels: tuple[str, ...]
    model: str

    @classmethod
    def of(cls, model: nn.Module, config: TextConfig) -> "Conditions":
        chip = str(mx.device_info().get("device_name", "CPU"))
        versions = _version("mlx"), _version("mlx-gemma4")
        return cls(chip, *versions, launch.NAMES, _fingerprint(model, config))

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**vars(self), "kernels": list(self.kernels)}


def _version(package: str) -> str:
    """Empty in a checkout that is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # costs 30 ms

    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _fingerprint(model: nn.Module, config: TextConfig) -> str:
    """Of the shapes and types of all weights that decoding uses, and their roles."""
    parameters = cast(list[tuple[str, mx.array]], tree_flatten(model.parameters()))
    shapes = [
        (name, array.shape, str(array.dtype))
        for name, array in parameters
        if name.startswith(("language_model.", "lm_head."))
    ]
    return hashlib.sha256(repr((config, shapes)).encode()).hexdigest()[:16]


def use_remembered(model: nn.Module, config: TextConfig, note: Note) -> None:
    """Where `auto` is set and there is Metal, use the kernels that are known to be
    faster with `model`; none, with a note, where nothing is known.

    config: of the text decoder.
    """
    if not launch.is_auto():
        return
    names = recall(Conditions.of(model, config), note)
    if names is None:
        note(
            "GEMMA4_KERNELS=auto: no kernel is used, since none was measured with this "
            "model here. `gemma4 bench -m MODEL` measures them and remembers."
        )
    launch.settle(*(names or ()))


def recall(here: Conditions, note: Note) -> tuple[str, ...] | None:
    """The kernels that were faster under these conditions; None if not known."""
    for entry in _entries(note):
        known = set(entry["faster"]) <= set(launch.NAMES)
        if known and entry["place"] == here.plain():
            return tuple(entry["faster"])
    return None


def remember(here: Conditions, names: Sequence[str], note: Note) -> None:
    """Keep an answer in place of older ones for the same chip and model."""
    others = [
        entry
        for entry in _entries(lambda text: None)
        if (entry["place"].get("chip"), entry["place"].get("model"))
        != (here.chip, here.model)
    ]
    answers = [*others, {"place": here.plain(), "faster": list(names)}]
    file = memory_file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        save_text(file, json.dumps({"answers": answers}, indent=1) + "\n")
    except OSError as error:
        note(f"Which kernels are faster is not remembered: {error}.")
    found = f"faster here: {', '.join(names)}" if names else "no kernel is faster here"
    note(f"Remembered for GEMMA4_KERNELS=auto: {found}.")


def memory_file() -> Path:
    """Where answers are kept."""
    return state_folder() / "kernels.json"


def remembered() -> int:
    """For how many chips and models an answer is kept."""
    return len(_entries(lambda text: None))


def _entries(note: Note) -> list[dict[str, Any]]:
    """All answers that are kept; none, with a note, if the file is damaged."""
    file = memory_file()
    try:
        return _checked(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        pass
    except OSError as error:
        note(f"{file} cannot be read: {error}")
    except (ValueError, RecursionError):
        note(f"{file} is damaged; the next `gemma4 bench` writes it again.")
    return []


def _checked(data: Any) -> list[dict[str, Any]]:
    """The answers in `data`. Raises ValueError for anything else."""
    answers = data.get("answers") if isinstance(data, dict) else None
    if not isinstance(answers, list):
        raise ValueError("no answers")
    for entry in answers:
        names = entry.get("faster") if isinstance(entry, dict) else None
        known = isinstance(names, list) and all(isinstance(n, str) for n in names)
        if not known or not isinstance(entry.get("place"), dict):
            raise ValueError("not an answer")
    return cast(list[dict[str, Any]], answers)
