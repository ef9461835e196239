"""Larger command buffers: how much of a step MLX sends to the GPU at once.

MLX reads two variables when it first uses the GPU. Where a benchmark found larger
buffers better with a model, behind a short and a long context, `gemma4` sets them for
that model when it starts, never over those that are set. Nothing here imports MLX.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..state import save_text, state_folder
from .rounds import FEWEST, compared

if TYPE_CHECKING:
    from .timing import Series

OPS, MB = "MLX_MAX_OPS_PER_BUFFER", "MLX_MAX_MB_PER_BUFFER"
MOST_OPS = 1000  # so many that the size decides
MLX_MB = 50  # MLX's own size, at most
# Buffers that a step is to make. MLX waits where 10 are unfinished; with fewer it would
# go on to the next step, and copy each cache that this one still uses.
A_STEP = 16
COMMANDS = ("chat", "describe", "transcribe")

Settings = Mapping[str, str]


def larger(layers: int, environ: Mapping[str, str] = os.environ) -> Settings | None:
    """What to set for a model whose layers have so many bytes; None where that is no
    more than MLX's own, or something is set already."""
    size = (layers // A_STEP) >> 20
    if size <= MLX_MB or OPS in environ or MB in environ:
        return None
    return {OPS: str(MOST_OPS), MB: str(size)}


def remembered(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """For a program with these `arguments`, itself the first: what was found better
    with the model that it loads, but for what is set already."""
    program, *rest = arguments
    if Path(program).name != "gemma4" or not rest or rest[0] not in COMMANDS:
        return {}
    name = _model_of(rest) or environ.get("GEMMA4_MODEL")
    found = _kept().get(_full(name), {}) if name else {}
    return {key: value for key, value in found.items() if key not in environ}


def _model_of(arguments: Sequence[str]) -> str | None:
    for option, value in zip(arguments, [*arguments[1:], ""], strict=True):
        if option in ("-m", "--model"):
            return value
        if option.startswith("--model="):
            return option.removeprefix("--model=")
    return None


def _full(name: str) -> str:
    """The same for a folder however it is written."""
    folder = os.path.expanduser(name)
    return os.path.realpath(folder) if os.path.isdir(folder) else name


def learn(
    name: str,
    settings: Settings,
    found: Iterable[tuple["Series", "Series"]],
) -> str | None:
    """Remember `settings` for the model `name` where they were better in all that was
    `found`, and forget them where they were not; says so.

    found: for each context, the series with MLX's own buffers and with larger ones. One
    context, or fewer rounds than a verdict takes, changes nothing: None.
    """
    pairs = list(found)
    rounds = [len(series.samples) for pair in pairs for series in pair]
    if len(pairs) < 2 or min(rounds) < FEWEST:
        return None
    better = all(
        compared(ours.decode_rates, own.decode_rates) == "faster"
        and compared(ours.prefill_rates, own.prefill_rates) != "slower"
        for own, ours in pairs
    )
    kept = {model: each for model, each in _kept().items() if model != _full(name)}
    if better:
        kept[_full(name)] = settings
    text = json.dumps({"system": os.uname().version, "models": kept}, indent=1)
    file = memory_file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        save_text(file, text + "\n")
    except OSError as error:
        return f"Which buffers are better is not remembered: {error}."
    words = " ".join(f"{key}={value}" for key, value in settings.items())
    return (
        f"Larger buffers are better with this model at all contexts: {words} are set "
        "for it from now on."
        if better
        else "Larger buffers are not better at all contexts: MLX's own are used."
    )


def memory_file() -> Path:
    """Where settings are kept, by model."""
    return state_folder() / "buffers.json"


def _kept() -> dict[str, Settings]:
    """Those of this build of the system. A damaged file holds none: it is written again
    by the next benchmark, and MLX's own sizes are right meanwhile."""
    try:
        data = json.loads(memory_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(data, dict) or data.get("system") != os.uname().version:
        return {}
    models = data.get("models")
    if not isinstance(models, dict):
        return {}
    return {name: each for name, each in models.items() if _is_settings(each)}


def _is_settings(data: Any) -> bool:
    return (
        isinstance(data, dict)
        and data.keys() == {OPS, MB}
        and all(isinstance(x, str) and x.isdecimal() for x in data.values())
    )
