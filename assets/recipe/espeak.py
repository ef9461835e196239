"""eSpeak NG in process: text to samples, and when each word begins.

`pip install espeakng-loader` brings the library and its voices. A process per sentence
would take longer to start than to speak.

Source of the declarations: espeak-ng's speak_lib.h.
"""

import ctypes
from functools import cache
from typing import Any, NamedTuple

import espeakng_loader
import numpy as np

SYNCHRONOUS, BUFFER_MS = 2, 200
UTF8, CHARACTERS = 1, 1
WORD = 1  # the type of the event that a word begins
SPEED, PITCH, RANGE = 1, 3, 4


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.POINTER(ctypes.c_short),
    ctypes.c_int,
    ctypes.POINTER(_Event),
)


class Voice(NamedTuple):
    """A language and variant as `en-us+f2`, words a minute, pitch and its range."""

    name: str
    speed: int
    pitch: int
    pitch_range: int = 50


class Spoken(NamedTuple):
    """Samples float32 `[n]` in -1..1, their rate, and where each word begins."""

    samples: np.ndarray
    rate: int
    starts: list[int]


class _Speaker:
    """The library, initialised once: it keeps its state in global variables."""

    def __init__(self) -> None:
        self.library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.rate: int = self.library.espeak_Initialize(SYNCHRONOUS, BUFFER_MS, data, 0)
        if self.rate <= 0:
            raise OSError("eSpeak NG found no voices")
        self.blocks: list[bytes] = []
        self.starts: list[int] = []
        self.callback = _Callback(self._receive)  # kept: C holds no reference
        self.library.espeak_SetSynthCallback(self.callback)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self.blocks.append(ctypes.string_at(samples, 2 * count))
        i = 0
        while events[i].type:
            if events[i].type == WORD:
                self.starts.append(events[i].sample)
            i += 1
        return 0

    def say(self, text: str, voice: Voice) -> Spoken:
        self.blocks, self.starts = [], []
        if self.library.espeak_SetVoiceByName(voice.name.encode()):
            raise ValueError(f"eSpeak NG has no voice {voice.name!r}")
        settings = (voice.speed, voice.pitch, voice.pitch_range)
        for name, value in zip((SPEED, PITCH, RANGE), settings, strict=True):
            self.library.espeak_SetParameter(name, value, 0)
        content = text.encode() + b"\0"
        failed = self.library.espeak_Synth(
            content, len(content), 0, CHARACTERS, 0, UTF8, None, None
        )
        if failed:
            raise OSError(f"eSpeak NG could not say {text!r}")
        whole = np.frombuffer(b"".join(self.blocks), "<i2").astype(np.float32)
        return Spoken(whole / 32768, self.rate, self.starts)


@cache
def _speaker() -> _Speaker:
    return _Speaker()


def say(text: str, voice: Voice) -> Spoken:
    """`text` in `voice`. Raises ValueError for a voice that is not there."""
    return _speaker().say(text, voice)
