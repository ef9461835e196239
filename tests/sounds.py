"""Sounds made for tests: none is recorded, all can be made again."""

import numpy as np

RATE = 16_000


def recording(samples: int) -> np.ndarray:
    """Noise over a loud tone that stops half-way, float32 `[samples]`."""
    noise = 0.01 * np.random.default_rng(samples).standard_normal(samples)
    sound = 0.8 * np.sin(0.3 * np.arange(samples))
    sound[samples // 2 :] = 0
    return (noise + sound).astype(np.float32)


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    """A sine of amplitude 0.5, float32 `[n]`."""
    turns = hertz / rate * np.arange(round(seconds * rate))
    return (0.5 * np.sin(2 * np.pi * turns)).astype(np.float32)
