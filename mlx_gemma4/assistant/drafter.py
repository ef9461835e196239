"""A drafter as its model has it."""

from dataclasses import dataclass
from pathlib import Path

from .model import Assistant


@dataclass(frozen=True)
class Drafter:
    """The module and where it is from. Not a module itself, so that what it holds is
    none of its model's parameters."""

    module: Assistant
    folder: Path
