"""What can go wrong with training data and adapters, beside the library's errors."""

from collections.abc import Sequence

from ..errors import CheckpointError


class AdapterError(CheckpointError):
    """An adapter that is missing, damaged, or made for another model."""


class AdapterWarning(UserWarning):
    """An adapter states or holds something that has no effect on this model."""


class Diverged(RuntimeError):
    """Training has stopped because the loss or its gradient is no longer a number."""


def listed_problems(problems: Sequence[str]) -> str:
    """Every problem on a line of its own, below their number."""
    count = f"{len(problems)} unusable example{'s' if len(problems) > 1 else ''}"
    return "\n  ".join([f"{count}:", *problems])
