"""What was measured and chosen, kept with the conversion that it belongs to.

One that goes on must have the same packings, and need not be measured again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlx_gemma4.checkpoint.packing import Packing
from mlx_gemma4.state import save_text

from .card import RECORD
from .check import Fidelity
from .offers import Offer
from .output import partial
from .plan import Plan, TensorPlan
from .source import Source
from .survey import Wishes
from .writer import explained

NAME = "choice.json"  # in the folder of an unfinished conversion
KEY = "choice"  # in the record of a finished one
VERSION = 1


@dataclass(frozen=True)
class Choice:
    """record: as it is kept."""

    plan: Plan
    fidelity: Fidelity
    record: dict[str, Any]


def choice_key(
    source: Source, wishes: Wishes, sequences: Sequence[Sequence[int]]
) -> str:
    """Differs where something else might be chosen."""
    files = {name: print_[2] for name, print_ in source.fingerprints().items()}
    asked = wishes.recipe, wishes.target_bytes, str(wishes.overrides)
    text = [list(sequence) for sequence in sequences]
    told = json.dumps([VERSION, files, asked, text])
    return hashlib.sha256(told.encode()).hexdigest()


def chosen(key: str, best: Offer, offers: Sequence[Offer]) -> Choice:
    packings = {
        tensor.name: [*vars(tensor.packing).values(), tensor.grid]
        for tensor in best.plan.tensors
        if tensor.packing
    }
    record = {
        "key": key,
        "fidelity": best.fidelity.as_dict(),
        "offers": [offer.as_dict() for offer in offers],
        "packings": packings,
    }
    return Choice(best.plan, best.fidelity, record)


def keep(choice: Choice, out: Path) -> None:
    """Raises OutputError."""
    work = partial(out)
    with explained(work):
        work.mkdir(parents=True, exist_ok=True)
        save_text(work / NAME, json.dumps(choice.record))


def kept(out: Path, key: str, plan: Plan) -> Choice | None:
    """What was chosen before for the same conversion, as `plan` in other packings."""
    for file in (out / RECORD, partial(out) / NAME):
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            record = record[KEY] if file.name == RECORD else record
            if record["key"] != key:
                continue
            tensors = [_as_kept(t, record["packings"]) for t in plan.tensors]
            fidelity = Fidelity(**record["fidelity"])
            return Choice(replace(plan, tensors=tuple(tensors)), fidelity, record)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _as_kept(tensor: TensorPlan, packings: Mapping[str, Sequence[Any]]) -> TensorPlan:
    if tensor.name not in packings:
        return replace(tensor, packing=None, grid=None)
    *packing, grid = packings[tensor.name]
    return replace(tensor, packing=Packing(*packing), grid=grid, note=None)
