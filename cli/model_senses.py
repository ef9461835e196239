"""What a model can see and hear, and how it is said that it cannot."""

from typing import TYPE_CHECKING

from .errors import UsageError

if TYPE_CHECKING:
    from mlx_gemma4 import Config


def has_sense(config: "Config", kind: str) -> bool:
    """Whether a model can take image, audio or video; any can take a text (`file`)."""
    if kind == "file":
        return True
    tower = config.audio_config if kind == "audio" else config.vision_config
    return tower is not None


def require_sense(config: "Config", name: str, kind: str) -> None:
    """Raises UsageError if the model called `name` cannot take this kind of medium."""
    if has_sense(config, kind):
        return
    if kind == "audio":
        raise UsageError(
            f"{name} cannot hear. Choose a model that can: Gemma 4 E2B, E4B or 12B."
        )
    raise UsageError(
        f"{name} cannot see. Choose a model that can, such as google/gemma-4-E2B-it."
    )
