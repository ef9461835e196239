"""How answers are made: what the sampling options and /set change."""

from dataclasses import dataclass


@dataclass
class Settings:
    """How answers are made. None leaves a value to the checkpoint."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    think: bool = False
