"""A conversion's plan as a table, and as JSON."""

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from mlx_gemma4.convert.output import FLOAT_NAMES, describe
from mlx_gemma4.convert.plan import Line, Plan, Reason
from mlx_gemma4.reading.sizes import size

from ..errors import unread
from ..render import Screen, fitted
from ..tables import columns, count

if TYPE_CHECKING:
    from mlx_gemma4.convert.source import Source

HEAD = ("class", "tensors", "weights", "packing", "bits", "size")


def show(plan: Plan, name: str, screen: Screen) -> None:
    with unread():
        if screen.as_json:
            screen.json({"plan": as_json(plan, name)})
        else:
            print(table(plan, name), flush=True)
    for warning in plan.warnings:
        screen.note(f"Warning: {warning}")


def show_unmeasured(source: "Source", plan: Plan, screen: Screen) -> None:
    """What headers do not tell of a plan that is to be measured."""
    from mlx_gemma4.convert.recipes import MIXED

    told = "By headers alone: the sizes are exact."
    if plan.recipe == MIXED:
        told = (
            "By headers alone: the result is no larger than asked for, but which bits "
            "go where is a guess, and is measured on text before it is made."
        )
    screen.note(
        f"{told} What it loses is not known: measuring reads all weights, "
        f"{size(source.bytes)}, which `gemma4 pull` or a run without --dry-run fetches."
    )


def table(plan: Plan, name: str) -> str:
    """The classes of tensors, what becomes of them, and what that costs in memory."""
    total = (
        "total",
        f"{len(plan.tensors):,}",
        count(plan.params),
        "",
        f"{plan.bits_per_weight:.2f}",
        size(plan.out_bytes),
    )
    rows = [HEAD, *(_row(line) for line in plan.table), total]
    source = f"{name}: {size(plan.source_bytes)}, recipe {plan.recipe}"
    if plan.qat:
        source += f", trained for {plan.qat}"
    said = (fitted(note, sys.stdout) for note in notes(plan))
    return "\n".join([source, "", *columns(rows), "", *memory(plan), *said])


def _row(line: Line) -> tuple[str, ...]:
    return (
        line.kind,
        f"{len(line.tensors):,}",
        count(line.params),
        packing(line),
        f"{line.bits_per_weight:.2f}",
        size(line.out_bytes),
    )


def packing(line: Line) -> str:
    """`4 bits, groups of 64`; `mxfp4`; `bfloat16`; the trained grid if there is one."""
    if line.packing is None:
        return FLOAT_NAMES.get(line.dtype) or "whole numbers"
    if line.packing.mode != "affine":
        return line.packing.mode
    text = f"{line.packing.bits} bits, groups of {line.packing.group_size}"
    return f"{text}, trained grid" if line.grid else text


def memory(plan: Plan) -> list[str]:
    """What the weights need in memory, by what of the model is loaded."""
    need = plan.memory
    head, sizes = ["memory", "text"], [need.text]
    for name, more in (("vision", need.vision), ("audio", need.audio)):
        if more:
            head.append(f"+ {name}")
            sizes.append(sizes[-1] + more)
    rows = [head, ["all weights", *map(size, sizes)]]
    if need.table:
        rows.append(["--ple disk", *(size(each - need.table) for each in sizes)])
    return columns(rows, left=(0,))


def notes(plan: Plan) -> list[str]:
    """Packings that are not the recipe's, and what nobody reads."""
    found = Counter(f"{t.kind}: {t.note}" for t in plan.tensors if t.note)
    lines = [f"Note: {note} ({tensors(n)})." for note, n in found.items()]
    if plan.dropped:
        lines.append(f"Left out: {left_out(plan)}.")
    if plan.unclipped:
        lines.append(
            f"Note: {' and '.join(plan.unclipped)} of config.json clip, but the files "
            "hold no bounds: nothing is clipped, as in the reference, and the result "
            "says so."
        )
    lines += [
        f"Note: by type and shape, {copy}. The values are not read yet: converting "
        "begins with comparing them."
        for copy in plan.copies
    ]
    return lines


def left_out(plan: Plan) -> str:
    """`60 tensors that no layer reads`; by kind where there are several."""
    kinds = Counter(dropped.reason for dropped in plan.dropped)
    total = tensors(len(plan.dropped))
    if len(kinds) == 1:
        (reason,) = kinds
        return f"{total}{', ' if reason.startswith('scales') else ' '}{reason}"
    parts = (f"{kinds[reason]:,} {reason}" for reason in Reason if kinds[reason])
    return f"{total}: {', '.join(parts)}"


def tensors(count: int) -> str:
    return f"{count:,} tensor" + ("" if count == 1 else "s")


def as_json(plan: Plan, name: str) -> dict[str, Any]:
    return {
        "source": name,
        "recipe": plan.recipe,
        "qat": plan.qat,
        "source_bytes": plan.source_bytes,
        "bytes": plan.out_bytes,
        "weights": plan.params,
        "bits_per_weight": round(plan.bits_per_weight, 4),
        "classes": [describe(line) for line in plan.table],
        "memory": vars(plan.memory),
        "notes": notes(plan),
        "warnings": list(plan.warnings),
    }
