"""What a model can see and hear, and how it is said that it cannot."""

from typing import TYPE_CHECKING

from .errors import UsageError

if TYPE_CHECKING:
    from mlx_gemma4 import Config


def require_sense(config: "Config", name: str, kind: str) -> None:
    """Raises UsageError if the model called `name` cannot take this kind of medium."""
    if kind == "audio" and config.audio_config is None:
        raise UsageError(
            f"{name} cannot hear. Choose a model that can: Gemma 4 E2B or E4B."
        )
    if kind != "audio" and config.vision_config is None:
        raise UsageError(
            f"{name} cannot see. Choose a model with a vision tower, such as "
            "google/gemma-4-E2B-it."
        )
