"""`GEMMA4_KERNELS=auto`: the kernels that are faster here, measured once, remembered.

Every kernel is measured alone against none, in turns (see bench.py), with the model at
hand. One is used whose rounds are all faster than all of those without it, at reading
a prompt or at decoding, and slower at neither, and whose results are those of MLX's own
operations. The answer depends on the chip, the versions of MLX and of this project, and
the shapes and packing of the weights; one is kept for each chip and model, of the
versions measured last. It holds for the whole process: the last model settled decides.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import mlx.core as mx

from .. import __version__
from ..kernels import MOST_ROWS, NAMES, comparing, launch, using
from ..model import Gemma4
from ..state import save_text, state_folder
from .timing import (
    FEWEST,
    Series,
    Verdict,
    compared,
    contender,
    default_contexts,
    each_alone,
    only,
    prompt_of,
    take_turns,
)
from .traffic import parameters

DECODE, ROUNDS = 32, 5
# Tokens read behind a prompt to compare results: a step of decoding, a draft, a step.
BEHIND = (1, MOST_ROWS, 1)
WITHIN = 0.03  # of the largest value: roundings of two ways in bfloat16

Note = Callable[[str], None]
Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Place:
    """What an answer holds for."""

    chip: str
    mlx: str
    mlx_gemma4: str
    kernels: tuple[str, ...]
    model: str

    @classmethod
    def of(cls, model: Gemma4) -> "Place":
        chip = str(mx.device_info().get("device_name", "CPU"))
        return cls(chip, version("mlx"), __version__, NAMES, _fingerprint(model))


def _fingerprint(model: Gemma4) -> str:
    """Of the shapes and types of all weights that decoding uses, and their roles."""
    shapes = [
        (name, array.shape, str(array.dtype))
        for name, array in parameters(model)
        if name.startswith(("language_model.", "lm_head."))
    ]
    text = repr((model.config.text_config, shapes))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def settle(
    model: Gemma4, note: Note, progress: Progress = lambda name, number: None
) -> None:
    """Where `auto` is set and there is Metal, use the kernels that are faster here.

    Measures them, unless the answer is remembered.

    note: is told what takes time, what was found, and what went wrong.
    progress: as that of `take_turns`.
    """
    if not launch.is_auto():
        return
    place = Place.of(model)
    names = recall(place, note)
    if names is None:
        note(
            "GEMMA4_KERNELS=auto: measuring each kernel with this model, once. The "
            "answer is remembered."
        )
        names = measure(model, note, progress)
        remember(place, names, note)
    launch.settle(*names)


def learn(
    model: Gemma4, found: Mapping[int, Sequence[Series]], rounds: int, note: Note
) -> None:
    """Remember what a benchmark of `model` found, by context, where `auto` is set.

    Fewer rounds than a verdict takes change nothing.
    """
    if launch.is_auto() and rounds >= FEWEST:
        names = agreeing(model, faster(found.values()), note)
        remember(Place.of(model), names, note)


def measure(model: Gemma4, note: Note, progress: Progress) -> tuple[str, ...]:
    """The kernels that are faster with `model`, behind a short prompt, and right."""
    context = default_contexts(model, DECODE)[0]
    prompt = prompt_of(context, model.config.text_config.vocab_size)
    each = each_alone(contender(model))
    found = take_turns(each, prompt, DECODE, ROUNDS, progress, note)
    mx.clear_cache()
    return agreeing(model, faster([found]), note)


def agreeing(model: Gemma4, names: Sequence[str], note: Note) -> tuple[str, ...]:
    """Those of the kernels `names` that compute with `model` what they should."""
    context = default_contexts(model, sum(BEHIND))[0]
    right = []
    for name in names:
        try:
            far = farthest(model, name, context)
        except (RuntimeError, ValueError) as error:
            note(f"{only(name)} fails here and is left out: {error}")
            continue
        if far is None:  # another chance than the kernel made it look faster
            continue
        if far <= WITHIN:
            right.append(name)
        else:
            wrong = "wrong" if math.isfinite(far) else "not finite"
            note(f"{only(name)} is left out: its results are {wrong} here.")
    mx.clear_cache()
    return tuple(right)


def farthest(
    model: Gemma4, name: str, context: int, make: Callable[..., Any] | None = None
) -> float | None:
    """The largest difference of kernel `name` from its twin (see `comparing`).

    It reads `context` tokens and then as many as a step of decoding may have. NaN where
    a value is not finite; None where the model does not use the kernel.
    make: in place of `mx.fast.metal_kernel`, for tests without Metal.
    """
    cache = model.make_cache()
    differences: list[float] = []
    with using(name, make=make), comparing() as found:
        for size in (context, *BEHIND):
            tokens = prompt_of(size, model.config.text_config.vocab_size)
            model(mx.array([tokens]), cache=cache)
            mx.eval(found)  # all there is to compute: no logits
            differences += [cast(float, each.item()) for each in found]
            found.clear()
    if any(map(math.isnan, differences)):
        return math.nan
    return max(differences, default=None)


def faster(found: Iterable[Sequence[Series]]) -> tuple[str, ...]:
    """Kernels that gain something at one context at least, and lose or fail at none.

    found: by context, the series without kernels and behind it those of `only` one.
    """
    verdicts: dict[str, set[Verdict]] = {only(name): set() for name in NAMES}
    for base, *others in found:
        for failed in verdicts.keys() - {series.name for series in others}:
            verdicts[failed].add("slower")
        for series in others:
            if series.name in verdicts:
                verdicts[series.name] |= {
                    compared(series.decode_rates, base.decode_rates),
                    compared(series.prefill_rates, base.prefill_rates),
                }
    return tuple(
        name
        for name in NAMES
        if "faster" in verdicts[only(name)] and "slower" not in verdicts[only(name)]
    )


def memory_file() -> Path:
    """Where answers are kept."""
    return state_folder() / "kernels.json"


def recall(place: Place, note: Note) -> tuple[str, ...] | None:
    """The kernels that were faster at `place`; None if that is not known."""
    for entry in _entries(note):
        known = set(entry["faster"]) <= set(NAMES)
        if known and entry["place"] == _plain(place):
            return tuple(entry["faster"])
    return None


def remember(place: Place, names: Sequence[str], note: Note) -> None:
    """Keep an answer in place of older ones for the same chip and model."""
    here = _plain(place)
    same = ("chip", "model")
    others = [
        entry
        for entry in _entries(lambda text: None)
        if any(entry["place"].get(key) != here[key] for key in same)
    ]
    answers = [*others, {"place": here, "faster": list(names)}]
    file = memory_file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        save_text(file, json.dumps({"answers": answers}, indent=1) + "\n")
    except OSError as error:
        note(f"Which kernels are faster is not remembered: {error}.")
    found = f"faster here: {', '.join(names)}" if names else "no kernel is faster here"
    note(f"GEMMA4_KERNELS=auto: {found}.")


def _plain(place: Place) -> dict[str, Any]:
    return {**vars(place), "kernels": list(place.kernels)}


def _entries(note: Note) -> list[dict[str, Any]]:
    """All answers that are kept; none, with a note, if the file is damaged."""
    file = memory_file()
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        note(f"{file} cannot be read, and kernels are measured again: {error}")
        return []
    try:
        return _checked(json.loads(text))
    except (ValueError, RecursionError):
        note(f"{file} is damaged, and kernels are measured again.")
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
