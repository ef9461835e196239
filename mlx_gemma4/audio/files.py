"""Recordings to samples: any common file, rate and channel count to mono at 16 kHz.

soundfile reads wav, flac, ogg, opus, mp3 and more. What it cannot read goes to macOS's
afconvert, then to PyAV (extra `media`), then to an ffmpeg on the PATH. Files are read
in blocks, so that an hour of studio sound takes the memory of an hour of speech.
"""

import contextlib
import importlib.util
import io
import math
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from ..errors import MediaError
from ..reading.containers import ONLY_MEDIA
from ..reading.sources import open_source, stated_seconds
from .lengths import promised

if TYPE_CHECKING:
    from soundfile import SoundFile

RATE = 16_000  # hertz; what every published checkpoint hears
BLOCK = 1 << 14  # samples per channel read at once
LOUDEST = 16.0  # full scale is 1; anything far above is not scaled to it
SLOWEST, FASTEST = 1_000, 1_000_000  # hertz; other rates are mistakes
INTEGERS = {"int16": (0, 1 << 15), "int32": (0, 1 << 31), "uint8": (128, 128)}
CONVERT = "It may be damaged; if not, convert it to wav or flac."
INSTALL = (
    "If it is a recording, install PyAV with pip install 'mlx-gemma4[media]', "
    "put ffmpeg on the PATH, or convert it to wav or flac."
)

Samples = np.ndarray | mx.array
AudioSource = str | Path | bytes | tuple[Samples, float]


class Unreadable(Exception):
    """One way of decoding did not work; says why, or nothing if it is not there."""


class Soundless(Unreadable):
    """The file was understood, and there is no sound in it."""

    def __init__(self) -> None:
        super().__init__("it holds no sound")


def read_audio(source: AudioSource, rate: int = RATE) -> np.ndarray:
    """A recording as float32 mono samples in -1..1, `[n]`, at `rate` hertz.

    `source`: a path, the bytes of a file, or `(samples, rate)` with samples `[n]` or
    `[n, channels]`, floating point in -1..1 or int16, int32 or uint8 at full scale.
    Channels are averaged. Raises MediaError for what holds no usable sound, naming what
    would help.
    """
    if isinstance(source, tuple) and len(source) == 2:
        return _from_samples(*source, rate)
    if not isinstance(source, str | Path | bytes):
        raise MediaError(
            "A recording is a path, the bytes of a file or (samples, rate), not a "
            f"{type(source).__name__}."
        )
    return _decode(*open_source(source, "recording"), rate)


class Mixer:
    """Collects blocks `[n, channels]` of one recording as mono samples at `rate`."""

    def __init__(self, name: str, source_rate: float, rate: int) -> None:
        if not SLOWEST <= source_rate <= FASTEST:  # NaN too
            raise MediaError(
                f"{name} has {source_rate:g} samples per second; "
                f"{SLOWEST} to {FASTEST} are understood."
            )
        self.name = name
        self.source_rate = source_rate
        self.frames = 0
        self._samples = bytearray()  # grows in place, where joining would take twice
        self._resampler = None
        if source_rate != rate:
            import soxr

            self._resampler = soxr.ResampleStream(source_rate, rate, 1, dtype="float32")

    def add(self, block: np.ndarray) -> None:
        if not np.isfinite(block).all():
            raise MediaError(f"{self.name} holds samples that are not numbers.")
        peak = float(np.abs(block).max(initial=0.0))
        if peak > LOUDEST:
            raise MediaError(
                f"{self.name} has samples up to {peak:g}; they have to lie in -1..1."
            )
        self.frames += len(block)
        mono = block.mean(axis=1, dtype=np.float32)
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono)
        self._samples += mono.tobytes()

    def finish(self, announced: int = 0, damaged: bool = False) -> np.ndarray:
        """All of it. Warns if `announced` samples were not reached, or of damage."""
        if not self.frames:
            raise Soundless
        if damaged or self.frames < announced:
            found, due = (n / self.source_rate for n in (self.frames, announced))
            digits = 1 if abs(due - found) >= 0.1 else 4
            told = f" of {due:.{digits}f}" if announced else ""
            warnings.warn(
                f"{self.name} is damaged: only {found:.{digits}f}{told} s could be "
                "read.",
                stacklevel=2,
            )
        if self._resampler is not None:
            rest = np.zeros(0, np.float32)
            self._samples += self._resampler.resample_chunk(rest, last=True).tobytes()
        return np.frombuffer(self._samples, np.float32)


def _from_samples(samples: Samples, source_rate: float, rate: int) -> np.ndarray:
    sound = np.asarray(samples)
    if sound.ndim not in (1, 2) or (sound.ndim == 2 and sound.shape[1] > 64):
        raise MediaError(
            f"The sound has shape {sound.shape}; [samples] or [samples, channels] "
            "is expected."
        )
    kind = sound.dtype.name
    if kind in INTEGERS:
        middle, full = INTEGERS[kind]
        sound = (sound.astype(np.float32) - middle) / full
    elif not np.issubdtype(sound.dtype, np.floating):
        raise MediaError(f"The sound has type {kind}; float32 or int16 is expected.")
    if not isinstance(source_rate, Real) or math.isnan(source_rate):
        raise MediaError(f"The rate of the sound is {source_rate!r}, not a number.")
    if not sound.size:
        raise MediaError("The sound has no samples.")
    mixer = Mixer("The sound", float(source_rate), rate)
    mixer.add(sound.reshape(len(sound), -1))
    return mixer.finish()


def _decode(source: Path | bytes, name: str, rate: int) -> np.ndarray:
    """The first way that works. What they said is part of the error."""
    ways: list[tuple[str, Callable[[Path | bytes, str, int], np.ndarray]]] = [
        ("soundfile", with_soundfile),
        ("afconvert", with_afconvert),
        ("PyAV", with_pyav),
        ("ffmpeg", with_ffmpeg),
    ]
    reasons, soundless = [], False
    for way, decode in ways:
        try:
            return decode(source, name, rate)
        except Unreadable as error:
            soundless = soundless or isinstance(error, Soundless)
            if str(error):
                reasons.append(f"{way}: {error}")
    reads_more = shutil.which("ffmpeg") or importlib.util.find_spec("av")
    if soundless and reads_more:  # alone, libsndfile believes a streamed wav's 0
        raise MediaError(f"{name} holds no sound.")
    remedy = CONVERT if reads_more else INSTALL
    raise MediaError(f"{name} cannot be decoded ({'; '.join(reasons)}). {remedy}")


def with_soundfile(source: Path | bytes, name: str, rate: int) -> np.ndarray:
    from soundfile import LibsndfileError

    mixer, announced, damaged = None, 0, False
    with contextlib.ExitStack() as stack:
        if isinstance(source, bytes):
            opened = io.BytesIO(source)
        else:
            # By descriptor: given the name, soundfile would trust its ending.
            opened = stack.enter_context(source.open("rb")).fileno()
        try:
            sound = stack.enter_context(_sequential(opened))
            mixer, announced = Mixer(name, sound.samplerate, rate), sound.frames
            while len(block := sound.read(BLOCK, dtype="float32", always_2d=True)):
                mixer.add(block)
        except LibsndfileError as error:
            damaged = True
            if mixer is None or not mixer.frames:
                raise Unreadable(error.error_string.strip().rstrip(".")) from None
    return mixer.finish(max(announced, promised(source, mixer.frames)), damaged)


def _sequential(opened: io.BytesIO | int) -> "SoundFile":
    """A file to be read from start to end in blocks."""
    import soundfile

    class Sequential(soundfile.SoundFile):
        # soundfile seeks after each block where it can, and in an mp3 that lands
        # beside the place: clicks at every seam.
        def seekable(self) -> bool:
            return False

    return Sequential(opened, closefd=False)


def with_pyav(source: Path | bytes, name: str, rate: int) -> np.ndarray:
    if importlib.util.find_spec("av") is None:
        raise Unreadable
    import av  # pyright: ignore[reportMissingImports]
    import av.error  # pyright: ignore[reportMissingImports]

    mixer, stated, damaged = None, 0.0, False
    opened = io.BytesIO(source) if isinstance(source, bytes) else str(source.resolve())
    try:
        with av.open(opened, mode="r", options=ONLY_MEDIA) as container:
            if not container.streams.audio:
                raise Soundless
            stream = container.streams.audio[0]
            mixer = Mixer(name, stream.rate, rate)
            stated = stated_seconds(stream.metadata) * stream.rate
            planar = av.AudioResampler(format="fltp")
            for frame in container.decode(stream):
                for part in planar.resample(frame):
                    mixer.add(part.to_ndarray().T)
    except av.error.FFmpegError as error:
        damaged = True
        if mixer is None or not mixer.frames:
            raise Unreadable(str(error.strerror or error)) from None
    # Sound that is compressed may end a little sooner than it was to.
    short = stated - mixer.frames > mixer.source_rate / 2
    return mixer.finish(round(stated) if short else 0, damaged)


def with_afconvert(source: Path | bytes, name: str, rate: int) -> np.ndarray:
    command = ["afconvert", "-f", "WAVE", "-d", "LEF32", "{in}", "{out}"]
    return _converted(command, source, name, rate)


def with_ffmpeg(source: Path | bytes, name: str, rate: int) -> np.ndarray:
    quiet = ["ffmpeg", "-nostdin", "-v", "error", "-y"]
    only = [word for name, value in ONLY_MEDIA.items() for word in (f"-{name}", value)]
    wanted = ["-map", "0:a:0", "-f", "wav", "-c:a", "pcm_f32le", "-rf64", "auto"]
    command = [*quiet, *only, "-i", "file:{in}", *wanted, "file:{out}"]
    return _converted(command, source, name, rate)


def _converted(
    command: list[str], source: Path | bytes, name: str, rate: int
) -> np.ndarray:
    """Runs a program that writes a wav file, and reads that."""
    program = shutil.which(command[0])
    if program is None:
        raise Unreadable
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "sound.wav")
        if isinstance(source, bytes):
            Path(folder, "source").write_bytes(source)
            source = Path(folder, "source")
        paths = {"{in}": str(source.resolve()), "{out}": str(target)}
        arguments = [program]
        for word in command[1:]:
            for mark, path in paths.items():
                word = word.replace(mark, path) if word.endswith(mark) else word
            arguments.append(word)
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode or not target.exists():
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise Unreadable(said[-1] if said else f"exit code {done.returncode}")
        return with_soundfile(target, name, rate)
