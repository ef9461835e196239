"""How a run trains: what the command's options become."""

from dataclasses import asdict, dataclass, field
from typing import Any

from .adapters import AdapterSettings
from .optimizer import Schedule


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run computes; two equal runs end bit-equal.

    steps: updates, each of the gradient of `batch * accumulate` examples, weighted by
        token. warmup: the share of steps in which the learning rate rises.
    clip: the largest norm of a gradient; 0 leaves it as it is.
    """

    steps: int
    batch: int = 1
    accumulate: int = 8
    learning_rate: float = 2e-4
    schedule: Schedule = "cosine"
    warmup: float = 0.05
    weight_decay: float = 0.0
    clip: float = 1.0
    seed: int = 0
    checkpoint: bool = True
    adapter: AdapterSettings = field(default_factory=AdapterSettings)

    @property
    def per_step(self) -> int:
        """Examples of a step."""
        return self.batch * self.accumulate

    @property
    def warmup_steps(self) -> int:
        return round(self.warmup * self.steps)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Rhythm:
    """After how many steps a run validates, answers examples and saves; 0 is never."""

    validate: int = 50
    sample: int = 0
    save: int = 50
