"""What a checkpoint's config.json says, checked."""

from .assistant import AssistantConfig
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
    "AssistantConfig",
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
