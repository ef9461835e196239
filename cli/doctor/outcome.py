"""What it comes to: a verdict, and an exit code."""

from mlx_gemma4.doctor.findings import Findings, Level
from mlx_gemma4.doctor.model import Kind, ModelReport

from ..errors import FAILED, MEMORY, MODEL


def verdict(machine: Findings, model: ModelReport | None) -> str:
    """In less than 32 columns."""
    if model is None:
        fine = not machine.count(Level.PROBLEM)
        return _counted("ok" if fine else "not ok", machine)
    if model.kind is Kind.ADAPTER:
        return "an adapter, not a model" if model.loads else "a damaged adapter"
    if model.kind is Kind.ABSENT:
        return "not downloaded yet"
    if model.works and not model.fits:
        return "whole, but too large here"
    word = "loads but is broken" if model.loads else "does not load"
    if model.works:
        word = "works" if model.run else "would load"
    return _counted(word, machine, model.findings)


def _counted(word: str, *found: Findings) -> str:
    for level in (Level.PROBLEM, Level.WARNING):
        if number := sum(each.count(level) for each in found):
            return f"{word}, {number} {level}" + ("" if number == 1 else "s")
    return word


def exit_code(machine: Findings, model: ModelReport | None, headers_only: bool) -> int:
    """0, or that of the model's fault, or of the machine's where there is no model."""
    if model is None:
        return FAILED if machine.count(Level.PROBLEM) else 0
    if not model.works:
        return MODEL
    return 0 if model.fits or headers_only else MEMORY
