"""The microphone, through sounddevice (extra `mic`)."""

import sys
import threading
from typing import TYPE_CHECKING, Any

from mlx_gemma4.errors import install_command

from ..errors import InputError, UsageError
from ..render import Screen

if TYPE_CHECKING:
    import numpy as np


def record(screen: Screen) -> tuple["np.ndarray", float]:
    """Samples `[n]` and their rate, recorded until Enter or Ctrl-C."""
    device = sound_device()
    import numpy as np

    blocks: list[np.ndarray] = []

    def take(block: "np.ndarray", frames: int, at: Any, status: object) -> None:
        blocks.append(block[:, 0].copy())

    try:
        rate = float(device.query_devices(kind="input")["default_samplerate"])
        stream = device.InputStream(
            samplerate=rate, channels=1, dtype="float32", callback=take
        )
        with stream:
            wait_for_user(screen)
    except (device.PortAudioError, ValueError) as error:
        raise InputError(f"The microphone cannot be used: {error}.") from None
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if not samples.any():
        raise InputError(
            "The microphone gave only silence. On macOS allow the terminal to use it: "
            "System Settings, Privacy & Security, Microphone."
        )
    return samples, rate


def wait_for_user(screen: Screen) -> None:
    keyboard = sys.stdin if sys.stdin and sys.stdin.isatty() else None
    key = "Enter" if keyboard else "Ctrl-C"
    screen.note(f"Recording. Press {key} to stop.")
    try:
        if keyboard:
            keyboard.readline()
        else:
            threading.Event().wait()
    except KeyboardInterrupt:
        return


def sound_device() -> Any:
    """The module sounddevice. Raises UsageError that says how to get it."""
    try:
        import sounddevice  # type: ignore[import-not-found]
    except ImportError:
        raise UsageError(f"--mic needs sounddevice: {install_command('mic')}") from None
    except OSError:  # its wheel for Linux comes without PortAudio
        raise UsageError(
            "--mic needs the PortAudio library: apt install libportaudio2."
        ) from None
    return sounddevice
