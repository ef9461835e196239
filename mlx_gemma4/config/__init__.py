"""What a checkpoint's config.json says, checked."""

from .fields import (
    FULL,
    SLIDING,
    AudioConfig,
    AudioEmbedderConfig,
    Patches,
    RopeParameters,
    TextConfig,
    VisionConfig,
    VisionEmbedderConfig,
)
from .reading import Config, ConfigWarning

__all__ = [
    "FULL",
    "SLIDING",
    "AudioConfig",
    "AudioEmbedderConfig",
    "Config",
    "ConfigWarning",
    "Patches",
    "RopeParameters",
    "TextConfig",
    "VisionConfig",
    "VisionEmbedderConfig",
]
