"""PEFT's adapters of experts: parameters [E, O, I] that are adapted as such.

PEFT wraps the module that has them, once per parameter: the outermost wrapper is the
last parameter's, and those inside it are called `base_layer`. A wrapper has all experts
in lora_A [E·R, I], expert by expert, and in lora_B [O, R·E], rank by rank. Two other
orders exist: before 0.19.1 PEFT took inputs for outputs, and Unsloth trained with the
columns of lora_B expert by expert until it read them as PEFT does.
Letters: I inputs, O outputs, R rank, E experts.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import mlx.core as mx

from ..config.checks import shown
from .errors import AdapterError
from .lora import ExpertsLinear, sizes

PARAMETERS = ("gate_up_proj", "down_proj")  # in the order in which they are wrapped
LAYOUT, DETAILS = "lora_B_layout", "unsloth_fused_expert_lora"
TURNED_BEFORE = (0, 19, 1)


class Columns(StrEnum):
    """The order of lora_B's columns, by the names that Unsloth gives them."""

    BY_RANK = "rank_major"
    BY_EXPERT = "grouped_by_expert"


def columns_of(config: Mapping[str, Any], parameter: str) -> Columns:
    """The order that a configuration states for one of PARAMETERS, or else PEFT's.

    Raises AdapterError for an adapter of Unsloth's that states none.
    """
    details = config.get(DETAILS) or {}
    own = details.get("parameters") if isinstance(details, Mapping) else None
    own = own.get(parameter) if isinstance(own, Mapping) else None
    stated = own.get(LAYOUT) if isinstance(own, Mapping) else None
    stated = stated or config.get(LAYOUT)
    if stated in tuple(Columns):
        return Columns(stated)
    if stated:
        raise AdapterError(
            f"The PEFT adapter's {LAYOUT} is {shown(stated)}; it can be "
            f"{' or '.join(Columns)}."
        )
    mapping = config.get("auto_mapping")
    if isinstance(mapping, Mapping) and mapping.get("unsloth_fixed"):
        raise AdapterError(
            f"The PEFT adapter states no {LAYOUT}, and Unsloth has trained experts in "
            f'two orders: add "{LAYOUT}": "{Columns.BY_EXPERT}" to its configuration '
            f"if it was trained before 17 September 2026, or else {Columns.BY_RANK}."
        )
    return Columns.BY_RANK


def read_experts(
    base: ExpertsLinear,
    a: mx.array,
    b: mx.array,
    columns: Columns,
    version: Any,
) -> tuple[mx.array, mx.array] | None:
    """lora_a [E, R, I] and lora_b [E, O, R] of PEFT's lora_A and lora_B.

    version: of the PEFT that wrote them; it decides where the shapes do not. None for
    shapes that do not fit `base`. Raises AdapterError where nothing decides.
    """
    inputs, outputs = sizes(base)
    count = base.weight.shape[0]
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1] or a.shape[0] % count:
        return None
    rank = a.shape[0] // count
    across = (a.shape[1], b.shape[0])
    if across not in ((inputs, outputs), (outputs, inputs)):
        return None
    rows = a.reshape(count, rank, -1)
    if columns is Columns.BY_RANK:
        cols = b.reshape(-1, rank, count).transpose(2, 0, 1)
    else:
        cols = b.reshape(-1, count, rank).transpose(1, 0, 2)
    turned = _is_turned(version) if inputs == outputs else across[0] == outputs
    if turned:
        return cols.swapaxes(1, 2), rows.swapaxes(1, 2)
    return rows, cols


def write_experts(a: mx.array, b: mx.array) -> tuple[mx.array, mx.array]:
    """PEFT's lora_A and lora_B of lora_a [E, R, I] and lora_b [E, O, R]."""
    return (
        mx.contiguous(a.reshape(-1, a.shape[2])),
        mx.contiguous(b.transpose(1, 2, 0).reshape(b.shape[1], -1)),
    )


def wrapped(parameters: Mapping[str, Any]) -> dict[str, str]:
    """What each wrapper's name ends with, behind the module's, by parameter."""
    order = [name for name in PARAMETERS if name in parameters]
    inside = range(len(order) - 1, -1, -1)
    return {n: ".base_layer" * d for n, d in zip(order, inside, strict=True)}


def _is_turned(version: Any) -> bool:
    try:
        numbers = tuple(int(part) for part in str(version).split(".")[:3])
    except ValueError:
        numbers = ()
    if not numbers:
        raise AdapterError(
            f"The PEFT adapter's peft_version is {shown(version)}: it decides what are "
            "inputs and outputs of its experts, which have as many of both here."
        )
    return numbers < TURNED_BEFORE
