"""How sound is cut into frames, and how many: the constants of a checkpoint.

Kept apart from the arithmetic on samples, so that reading a configuration does not
import NumPy.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

FRAMES_PER_TOKEN = 4  # the tower's two convolutions of stride 2
EXTRACTOR = "Gemma4AudioFeatureExtractor"
# Keys of the section that say nothing about the features of one recording.
NOT_FEATURES = {
    "feature_extractor_type",
    "processor_class",
    "padding_side",
    "padding_value",
    "return_attention_mask",
}


@dataclass(frozen=True)
class AudioFeatureConfig:
    """How sound becomes frames, with the names of processor_config.json.

    Lengths in samples, frequencies in hertz. `audio_seq_length` is the most soft tokens
    one recording may have; the rest is what every published checkpoint states.
    """

    sampling_rate: int = 16_000
    feature_size: int = 128
    frame_length: int = 320
    hop_length: int = 160
    fft_length: int = 512
    min_frequency: float = 0.0
    max_frequency: float = 8000.0
    preemphasis: float = 0.0
    preemphasis_htk_flavor: bool = True
    input_scale_factor: float = 1.0
    mel_floor: float = 1e-3
    per_bin_mean: tuple[float, ...] | None = None
    per_bin_stddev: tuple[float, ...] | None = None
    audio_seq_length: int = 750

    @classmethod
    def from_stated(cls, stated: Mapping[str, Any], path: Path) -> "AudioFeatureConfig":
        """What processor_config.json, read from `path`, states; defaults for the rest.

        Raises CheckpointError for values that make no sense.
        """
        section = stated.get("feature_extractor") or {}
        if not isinstance(section, Mapping):
            raise CheckpointError(f"{path}: feature_extractor is not an object.")
        values = _values(path, section)
        if stated.get("audio_seq_length") is not None:
            values["audio_seq_length"] = stated["audio_seq_length"]
        try:
            config = cls(**values)
            config.check()
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path}, feature_extractor: {error}") from None
        return config

    @property
    def max_samples(self) -> int:
        """The longest recording the model takes at once."""
        return self.audio_seq_length * FRAMES_PER_TOKEN * self.hop_length

    @property
    def max_seconds(self) -> float:
        return self.max_samples / self.sampling_rate

    def check(self) -> None:
        """Raises ValueError for constants no frame can be made with."""
        sizes = (
            "sampling_rate",
            "feature_size",
            "frame_length",
            "hop_length",
            "fft_length",
            "audio_seq_length",
        )
        for name in sizes:
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is {value!r}, not a positive whole number.")
        if self.fft_length < self.frame_length:
            raise ValueError(
                f"fft_length {self.fft_length} is less than frame_length "
                f"{self.frame_length}."
            )
        if not 0 <= self.min_frequency < self.max_frequency:
            raise ValueError(
                f"min_frequency {self.min_frequency} and max_frequency "
                f"{self.max_frequency} are not a range."
            )
        if self.mel_floor <= 0:
            raise ValueError(f"mel_floor is {self.mel_floor}; it must be positive.")
        for name in ("per_bin_mean", "per_bin_stddev"):
            values = getattr(self, name)
            if values is not None and len(values) != self.feature_size:
                raise ValueError(
                    f"{name} has {len(values)} values for {self.feature_size} bins."
                )


def _values(path: Path, section: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of AudioFeatureConfig that `section` states."""
    kind = section.get("feature_extractor_type", EXTRACTOR)
    if kind != EXTRACTOR:
        raise CheckpointError(f"{path}: feature_extractor_type {kind} is not known.")
    if section.get("dither"):
        raise CheckpointError(
            f"{path}: dither is {section['dither']}; adding noise is not supported."
        )
    known = {field.name for field in fields(AudioFeatureConfig)}
    values = {k: v for k, v in section.items() if k in known and v is not None}
    rate = values.get("sampling_rate", AudioFeatureConfig.sampling_rate)
    for name in ("frame_length", "hop_length"):
        milliseconds = section.get(f"{name}_ms")
        if milliseconds is not None:
            values[name] = round(rate * milliseconds / 1000)
    if "fft_length" not in values:
        frame = values.get("frame_length", AudioFeatureConfig.frame_length)
        overdrive = 1 if section.get("fft_overdrive") else 0
        values["fft_length"] = 2 ** ((frame - 1).bit_length() + overdrive)
    for name in ("per_bin_mean", "per_bin_stddev"):
        if name in values:
            values[name] = tuple(values[name])
    used = {"frame_length_ms", "hop_length_ms", "fft_overdrive", "dither"}
    unknown = sorted(set(section) - known - used - NOT_FEATURES)
    if unknown:
        warnings.warn(f"{path}: {', '.join(unknown)} not understood.", stacklevel=4)
    return values


def valid_frames(samples: int, config: AudioFeatureConfig) -> int:
    """How many frames lie wholly within a recording of so many samples."""
    # One sample more than a frame has to be there: pre-emphasis looks back by one.
    past = samples + config.frame_length // 2 - (config.frame_length + 1)
    return max(past // config.hop_length + 1, 0)
