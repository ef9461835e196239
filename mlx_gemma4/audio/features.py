"""Log-mel frames of a recording: what the audio tower hears.

The waveform gets half a frame of silence in front and is filled up to a multiple of 128
samples. A frame of 20 ms begins every 10 ms and counts only if all its samples, and the
one after it, are sound: frames that reach into the filling are zero and masked. Window,
Fourier transform and filters run in NumPy, in the precision of the reference.

Sources: the audio section of the Gemma 4 model card and the constants in the
`feature_extractor` section of a checkpoint's processor_config.json.
"""

from functools import cache

import mlx.core as mx
import numpy as np

from ..errors import MediaError
from .framing import AudioFeatureConfig, AudioSampleConfig, valid_frames

USUAL_LENGTH = AudioFeatureConfig.audio_seq_length
FILL = 128  # samples: the reference fills recordings up to a multiple of this


def features_of(
    samples: np.ndarray | mx.array, config: AudioFeatureConfig | AudioSampleConfig
) -> tuple[mx.array, mx.array]:
    """What a model hears of a recording: log-mel frames for a tower, else samples."""
    if isinstance(config, AudioFeatureConfig):
        return log_mel(samples, config)
    return in_tokens(samples, config)


def in_tokens(
    samples: np.ndarray | mx.array, config: AudioSampleConfig
) -> tuple[mx.array, mx.array]:
    """A recording's samples as they are, float32 `[T, samples per token]`, the last
    ones filled up with silence, and True `[T]`. Takes what `log_mel` does, and any
    length."""
    wave, size = _mono(samples), config.audio_samples_per_token
    if not len(wave):
        raise MediaError("The recording has no samples: there is nothing to hear.")
    filled = np.pad(wave, (0, -len(wave) % size)).reshape(-1, size)
    return mx.array(filled), mx.ones(len(filled), mx.bool_)


def log_mel(
    samples: np.ndarray | mx.array, config: AudioFeatureConfig
) -> tuple[mx.array, mx.array]:
    """A recording's frames, float32 `[T, bins]`, and which count, bool `[T]`.

    `samples`: mono, -1..1, at `config.sampling_rate`, `[n]`. Raises MediaError if it is
    too short for a frame or longer than the model takes: nothing is ever cut off.
    """
    wave = _mono(samples)
    check_length(len(wave), config)
    frames = _frames(wave, config) * _window(config.frame_length)
    magnitudes = np.abs(np.fft.rfft(frames, n=config.fft_length, axis=-1))
    features = np.log(magnitudes @ mel_filters(config) + config.mel_floor)
    if config.per_bin_mean is not None:
        features -= np.array(config.per_bin_mean)
    if config.per_bin_stddev is not None:
        features /= np.array(config.per_bin_stddev)
    mask = mx.arange(len(features)) < valid_frames(len(wave), config)
    return mx.array(features.astype(np.float32)) * mask[:, None], mask


def _mono(samples: np.ndarray | mx.array) -> np.ndarray:
    wave = np.asarray(samples, dtype=np.float32)
    if wave.ndim != 1:
        raise MediaError(f"The sound has shape {wave.shape}; one channel is expected.")
    return wave


def check_length(samples: int, config: AudioFeatureConfig) -> None:
    """Raises MediaError for a recording that is too long for the model or too short."""
    if samples > config.max_samples:
        count = config.audio_seq_length
        stated = f" (audio_seq_length {count})" if count < USUAL_LENGTH else ""
        raise MediaError(
            f"The recording lasts {samples / config.sampling_rate:.1f} s and the model "
            f"hears at most {config.piece_seconds:g} s at once{stated}. "
            "`gemma4 transcribe` takes recordings of any length; otherwise cut it into "
            "parts."
        )
    if not valid_frames(samples, config):
        raise MediaError(
            f"The recording has {samples} samples, too few to hear anything; "
            f"at least {config.frame_length // 2 + 1} are needed."
        )


def _frames(wave: np.ndarray, config: AudioFeatureConfig) -> np.ndarray:
    """Overlapping stretches of the filled waveform, `[T, frame_length]`."""
    size, hop = config.frame_length, config.hop_length
    wave = np.pad(wave, (size // 2, -len(wave) % FILL))
    if config.input_scale_factor != 1.0:
        wave = wave * np.float32(config.input_scale_factor)
    frames = np.lib.stride_tricks.sliding_window_view(wave, size + 1)[::hop]
    if config.preemphasis == 0.0:
        return frames[:, :-1]
    if not config.preemphasis_htk_flavor:
        return frames[:, 1:] - config.preemphasis * frames[:, :-1]
    first = frames[:, :1] * (1.0 - config.preemphasis)
    return np.hstack([first, frames[:, 1:-1] - config.preemphasis * frames[:, :-2]])


@cache
def _window(length: int) -> np.ndarray:
    """A periodic Hann window."""
    turns = np.arange(length) / length
    return (0.5 - 0.5 * np.cos(2 * np.pi * turns)).astype(np.float32)


@cache
def mel_filters(config: AudioFeatureConfig) -> np.ndarray:
    """Triangles evenly spaced on HTK's mel scale, float64 `[fft bins, mel bins]`.

    Each rises from the centre of its lower neighbour to 1 at its own centre and falls
    to the centre of its upper neighbour.
    """
    low, high = (
        2595 * np.log10(1 + hertz / 700)
        for hertz in (config.min_frequency, config.max_frequency)
    )
    mels = np.linspace(low, high, config.feature_size + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    bins = np.linspace(0, config.sampling_rate // 2, config.fft_length // 2 + 1)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(np.minimum(rising, falling), 0)
