"""`GEMMA4_KERNELS=auto`, the default: the kernels that a check found to be right here.

The command line checks them once for a machine and a kind of model (bench/auto.py) and
remembers; a model that is loaded recalls it. What was found holds for the chip, the
build of the system, MLX, the kernels' text, and the model's shapes and packing; one
answer is kept for each chip and kind of model. It is used for the whole process: the
last model loaded decides.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import mlx.core as mx

from ..config import TextConfig
from ..state import save_text, state_folder
from .launch import is_auto, settle

__all__ = [
    "Answer",
    "Conditions",
    "is_auto",
    "memory_file",
    "recall",
    "remember",
    "remembered",
    "use_remembered",
]

Note = Callable[[str], None]
_unwritten: dict["Conditions", "Answer"] = {}  # known to this process alone


@dataclass(frozen=True)
class Conditions:
    """What a check of the kernels holds for."""

    chip: str
    system: str
    mlx: str
    kernels: str
    model: str

    @classmethod
    def of(
        cls, config: TextConfig, packings: Mapping[str, object], dtype: mx.Dtype
    ) -> "Conditions":
        """packings: how modules are packed, by their paths."""
        from importlib.metadata import version  # costs 30 ms

        chip = str(mx.device_info().get("device_name", "CPU"))
        system = os.uname().version  # names the build
        model = _fingerprint(config, packings, dtype)
        return cls(chip, system, version("mlx"), _digest_of_kernels(), model)


@dataclass(frozen=True)
class Answer:
    """The uses of kernels that are on (see launch.py), and why others are not."""

    uses: tuple[str, ...]
    out: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """`on: norms, dense; left out: dense 64x96, router (slower: …)`."""
        names = dict.fromkeys(use.partition(" ")[0] for use in self.uses)
        on = f"on: {', '.join(names)}" if names else "none is on"
        reasons: dict[str, list[str]] = {}
        for use, why in self.out.items():
            reasons.setdefault(why, []).append(use)
        left = [f"{', '.join(uses)} ({why})" for why, uses in reasons.items()]
        return f"{on}; left out: {'; '.join(left)}" if left else on


def _fingerprint(
    config: TextConfig, packings: Mapping[str, object], dtype: mx.Dtype
) -> str:
    """Of all that decoding depends on but the values of the weights."""
    decoding = [
        (path, str(packing))
        for path, packing in sorted(packings.items())
        if path.startswith(("language_model.", "lm_head"))
    ]
    return _digest(repr((config, decoding, str(dtype))).encode())


@cache
def _digest_of_kernels() -> str:
    """Of their text, and of what launches it."""
    room = files("mlx_gemma4.kernels").iterdir()
    texts = {f.name: f for f in room if f.name.endswith((".metal", ".py"))}
    return _digest(b"".join(texts[name].read_bytes() for name in sorted(texts)))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def use_remembered(here: Conditions, note: Note) -> None:
    """With `auto`: use the kernels that were found to be right under these conditions;
    none where nothing is known, with a note where `auto` was asked for."""
    answer = recall(here, note)
    if answer is None and "GEMMA4_KERNELS" in os.environ:
        note(
            "GEMMA4_KERNELS=auto: no kernel is used, since none was checked with a "
            "model like this one here. `gemma4` does it once for each, and "
            "mlx_gemma4.check_kernels(MODEL) does."
        )
    settle(*(answer.uses if answer else ()))


def recall(here: Conditions, note: Note) -> Answer | None:
    """What was found under these conditions; None if not known."""
    if here in _unwritten:
        return _unwritten[here]
    for entry in _entries(note):
        if entry["place"] == vars(here):
            return Answer(tuple(entry["uses"]), entry["out"])
    return None


def remember(here: Conditions, answer: Answer, note: Note) -> None:
    """Keep an answer in place of older ones for the same chip and kind of model; for
    this process alone, with a note, where it cannot be written."""
    others = [
        entry
        for entry in _entries(lambda text: None)
        if (entry["place"].get("chip"), entry["place"].get("model"))
        != (here.chip, here.model)
    ]
    entry = {"place": vars(here), "uses": answer.uses, "out": dict(answer.out)}
    file = memory_file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        save_text(file, json.dumps({"answers": [*others, entry]}, indent=1) + "\n")
        _unwritten.pop(here, None)
    except OSError as error:
        _unwritten[here] = answer
        note(f"What was found out about kernels is not remembered: {error}.")


def memory_file() -> Path:
    """Where answers are kept."""
    return state_folder() / "kernels.json"


def remembered() -> int:
    """For how many chips and kinds of models an answer is kept."""
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
        note(f"{file} is damaged; the next check of the kernels writes it again.")
    return []


def _checked(data: Any) -> list[dict[str, Any]]:
    """The answers in `data`. Raises ValueError for anything else."""
    answers = data.get("answers") if isinstance(data, dict) else None
    if not isinstance(answers, list):
        raise ValueError("no answers")
    for entry in answers:
        uses = entry.get("uses") if isinstance(entry, dict) else None
        known = isinstance(uses, list) and all(isinstance(use, str) for use in uses)
        if not known or not isinstance(entry.get("place"), dict):
            raise ValueError("not an answer")
        out = entry.get("out")
        if not (
            isinstance(out, dict) and all(isinstance(x, str) for x in out.values())
        ):
            raise ValueError("not an answer")
    return cast(list[dict[str, Any]], answers)
