"""How a plan, what is learned of examples, and results are shown."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlx_gemma4.reading.sizes import size
from mlx_gemma4.tune.evaluate import Report
from mlx_gemma4.tune.examples import Example, passages
from mlx_gemma4.tune.plan import Plan

from ..convert.plans import columns, count
from ..progress import clock
from ..render import coloured, printable

if TYPE_CHECKING:
    from mlx_gemma4 import Processor

LEARNED, RESET = "\x1b[1;32m", "\x1b[0m"
OPEN, CLOSE = "⟦", "⟧"


def mask_view(examples: Sequence[Example], processor: "Processor") -> str:
    """Examples with what is learned in colour, or in brackets where there is none."""
    before, after, clean = OPEN, CLOSE, str
    if coloured(sys.stdout, os.environ):
        before, after, clean = LEARNED, RESET, printable
    parts = []
    for example in examples:
        text = "".join(
            f"{before}{clean(text)}{after}" if mark else clean(text)
            for text, mark in passages(example, processor)
        )
        head = f"{example.record.where}: {example.supervised} of "
        parts.append(f"{head}{len(example.tokens)} tokens are learned\n{text}\n")
    return "\n".join(parts)


def plan_lines(plan: Plan, name: str, seconds: float, samples: bool) -> list[str]:
    """What a run reads, learns and takes; `samples`: which take more time."""
    share = plan.supervised / plan.tokens
    memory = plan.memory
    learned = "weights in float32" if plan.kind == "full" else "adapter"
    towers = f", towers {size(memory.towers)}" if memory.towers else ""
    towers += f", media {size(memory.media)}" if memory.media else ""
    more = ", and the samples" if samples else ""
    rows = (
        ("model", name),
        ("examples", f"{plan.examples:,} and {plan.validation:,} to validate with"),
        ("tokens", f"{plan.tokens:,}, {share:.1%} of them learned"),
        ("longest example", f"{plan.longest:,} tokens"),
        ("parameters to learn", count(plan.learned)),
        ("steps", f"{plan.steps:,}, {plan.passes:.1f} passes through the examples"),
        (
            "memory, estimated",
            f"{size(memory.total)}: weights {size(memory.weights)}, "
            f"{learned} and optimiser {size(memory.learned)}, layers "
            f"{size(memory.activations)}, vocabulary "
            f"{size(memory.vocabulary)}{towers}",
        ),
        ("time, from one batch", f"at most {clock(seconds)}{more}"),
    )
    width = max(len(label) for label, _ in rows)
    return [f"{label.ljust(width)}  {value}" for label, value in rows]


def report_lines(reports: dict[str, Report]) -> list[str]:
    """Models side by side, one figure a line."""
    figures = (
        ("examples", lambda r: f"{r.examples:,}"),
        ("learned tokens", lambda r: f"{r.tokens:,}"),
        ("loss", lambda r: f"{r.loss:.4f}"),
        ("perplexity", lambda r: f"{r.perplexity:.3f}"),
        ("token accuracy", lambda r: f"{r.accuracy:.1%}"),
        ("exact match", lambda r: f"{r.exact:.1%}"),
    )
    rows = [("", *reports)]
    rows += [(label, *map(form, reports.values())) for label, form in figures]
    return columns(rows)
