"""All that is found out about an adapter that was named in place of a model."""

from functools import partial
from pathlib import Path
from typing import Any

from ..checkpoint.plan import plan_load, read_headers
from ..errors import CheckpointError, ModelNotFoundError
from ..hub.resolve import local_folder
from ..reading.json_file import read_object
from ..tune.adapter_files import (
    CONFIG,
    PEFT_WEIGHTS,
    WEIGHTS,
    float_header,
    load_floats,
)
from ..tune.formats import is_peft, read_adapter
from ..tune.mlx_read import MlxConfig
from ..tune.peft_config import PeftConfig
from .findings import Findings, Level

ABOUT = "adapter"


def is_adapter(folder: Path) -> bool:
    """Whether it is the folder of an adapter, a damaged one included."""
    names = (CONFIG, WEIGHTS, PEFT_WEIGHTS)
    there = any((folder / name).is_file() for name in names)
    return there and not (folder / "config.json").is_file()


def examine_adapter(folder: Path, headers_only: bool, say: Findings) -> dict[str, Any]:
    """Checks an adapter for itself, and against its model where that is here."""
    config: dict[str, Any] | None = say.attempt(
        ABOUT, partial(read_object, folder / CONFIG)
    )
    stated = config or {}
    peft = is_peft(folder, stated)
    if config is not None:
        say.attempt(ABOUT, partial(_check_config, config, peft))
    read = float_header if headers_only else load_floats
    weights = folder / (PEFT_WEIGHTS if peft else WEIGHTS)
    tensors = say.attempt(ABOUT, partial(read, weights))
    made_for = stated.get("base_model_name_or_path", stated.get("model"))
    if not say.count(Level.PROBLEM) and not headers_only:
        _try_on(folder, made_for, say)
    settings = stated.get("lora_parameters")
    settings = settings if isinstance(settings, dict) else {}
    return {
        "format": "PEFT" if peft else "MLX",
        "kind": stated.get("peft_type") or stated.get("fine_tune_type"),
        "rank": stated.get("r", settings.get("rank")),
        "made_for": made_for,
        "tensors": None if tensors is None else len(tensors),
    }


def _check_config(config: dict[str, Any], peft: bool) -> None:
    if peft:
        PeftConfig.from_dict(config)
    else:
        MlxConfig.from_dict(config, layers=0)


def _try_on(folder: Path, made_for: Any, say: Findings) -> None:
    """Fits the adapter to its model, of which headers are read alone."""
    try:
        base = local_folder(made_for) if made_for and type(made_for) is str else None
    except (ModelNotFoundError, CheckpointError):
        base = None
    if base is None:
        say.unknown(ABOUT, "Its model is not here: whether it fits was not tried.")
        return
    plan = say.attempt("model", lambda: plan_load(*read_headers(base)))
    if plan is not None and say.attempt(
        ABOUT, partial(read_adapter, folder, plan.model)
    ):
        say.ok(ABOUT, f"It fits {made_for}.")
