"""What a checkpoint's config.json says, checked."""

from .fields import (
    FULL,
    SLIDING,
    AudioConfig,
    RopeParameters,
    TextConfig,
    VisionConfig,
)
from .reading import Config, ConfigWarning

__all__ = [
    "FULL",
    "SLIDING",
    "AudioConfig",
    "Config",
    "ConfigWarning",
    "RopeParameters",
    "TextConfig",
    "VisionConfig",
]
