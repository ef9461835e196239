"""Recordings to samples: any common file, rate and channel count to mono at 16 kHz.

soundfile reads wav, flac, ogg, opus, mp3 and more. What it cannot read goes to PyAV
(extra `media`), then to an ffmpeg on the PATH, then to macOS's afconvert. Files are
read in blocks, so that an hour of studio sound takes the memory of an hour of speech.
"""

import contextlib
import importlib.util
import math
import re
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from numbers import Real
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..errors import MediaError, install_command
from ..reading.containers import ONLY_MEDIA, several_mp4
from ..reading.sources import open_source
from .libsndfile import stated_by_libsndfile, with_soundfile
from .mixing import FASTEST, LONGEST, SLOWEST, Mixer, Recording, Soundless, Unreadable
from .pyav import stated_by_pyav, with_pyav

RATE = 16_000  # hertz; what every published checkpoint hears
MORE = 0.5  # seconds that another way has to hear more of a damaged file
INTEGERS = {"int16": (0, 1 << 15), "int32": (0, 1 << 31), "uint8": (128, 128)}
# What ffmpeg says of sound that it leaves out.
FAULT = re.compile(rb"Invalid data|Decoding error|Error (while|submitting)|corrupt")
CONVERT = "It may be damaged; if not, convert it to wav or flac."
OTHERWISE = (
    "If it is a recording, convert it to wav or flac, put ffmpeg on the PATH, or "
    "install PyAV:"
)

Samples = np.ndarray | mx.array
AudioSource = str | Path | bytes | tuple[Samples, float]


def read_audio(
    source: AudioSource, rate: int = RATE, track: int | None = None
) -> np.ndarray:
    """A recording as float32 mono samples in -1..1, `[n]`, at `rate` hertz.

    `source`: a path, the bytes of a file, or `(samples, rate)` with samples `[n]` or
    `[n, channels]`, floating point in -1..1 or int16, int32 or uint8 at full scale.
    Channels are mixed as `channels` says. track: which sound track of a video, from 1;
    without it the one that players take, and a warning if there are more. Warns of what
    is damaged. Raises MediaError for what holds no usable sound, with the remedy.
    """
    recording = read_recording(source, rate, track)
    if recording.damage:
        warnings.warn(recording.damage, stacklevel=2)
    return recording.samples


def read_recording(
    source: AudioSource, rate: int = RATE, track: int | None = None
) -> Recording:
    """As `read_audio`; what is missing of a damaged file is said in the result."""
    if track is not None and (type(track) is not int or track < 1):
        raise MediaError(f"track is {track!r}; sound tracks are counted from 1.")
    if isinstance(source, tuple) and len(source) == 2:
        return _from_samples(*source, rate)
    if not isinstance(source, str | Path | bytes):
        raise MediaError(
            "A recording is a path, the bytes of a file or (samples, rate), not a "
            f"{type(source).__name__}."
        )
    return _decode(*open_source(source, "recording"), rate, track)


def stated_seconds(source: AudioSource, track: int | None = None) -> float:
    """How long a recording is by what its file says of itself, of which no sound is
    decoded; 0 where that does not tell, or something is wrong, which `read_audio` says.
    """
    seconds = 0.0
    if isinstance(source, str | Path | bytes):
        file, name = open_source(source, "recording")
        if track in (None, 1):
            seconds = stated_by_libsndfile(file)
        seconds = seconds or stated_by_pyav(file, name, track)
    else:
        with contextlib.suppress(Exception):
            samples, rate = source
            if SLOWEST <= rate <= FASTEST:
                seconds = len(samples) / rate
    return seconds if seconds <= LONGEST else 0.0  # more is nonsense


def _from_samples(samples: Samples, source_rate: float, rate: int) -> Recording:
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
    mixer = Mixer("The sound", rate)
    mixer.add(sound.reshape(len(sound), -1), float(source_rate))
    return mixer.finish()


def _decode(source: Path | bytes, name: str, rate: int, track: int | None) -> Recording:
    """The first way that works, or of a damaged file the way that hears most of it.

    What the ways said is part of the error.
    """
    ways: list[tuple[str, Callable[[Path | bytes, str, int], Recording]]] = [
        ("soundfile", with_soundfile),
        ("PyAV", partial(with_pyav, track=track)),
        ("ffmpeg", partial(with_ffmpeg, track=track)),
        ("afconvert", with_afconvert),
    ]
    if track is not None:
        # Of what soundfile reads there is one track; afconvert has no choice.
        ways = ways[:3] if track == 1 else ways[1:3]
    reasons, soundless = [], False
    best: Recording | None = None
    for way, decode in ways:
        try:
            found = decode(source, name, rate)
        except Unreadable as error:
            soundless = soundless or isinstance(error, Soundless)
            if str(error):
                reasons.append(f"{way}: {error}")
            continue
        if best is None:
            best = found
        elif found.heard > best.heard + MORE:
            damage = f"{name} is damaged: only {found.heard:.1f} s could be read."
            best = replace(found, damage=found.damage or damage)
        if not best.damage or best.missing:  # else another may read on
            break
    if best is not None:
        if several_mp4(source) and not best.damage:
            damage = f"{name} has another file behind it: only the first could be read."
            best = replace(best, damage=damage)
        return best
    reads_more = shutil.which("ffmpeg") or importlib.util.find_spec("av")
    if soundless and reads_more:  # alone, libsndfile believes a streamed wav's 0
        raise MediaError(f"{name} holds no sound.")
    remedy = CONVERT if reads_more else f"{OTHERWISE} {install_command('media')}"
    why = f" ({'; '.join(reasons)})" if reasons else ""
    raise MediaError(f"{name} cannot be decoded{why}. {remedy}")


def with_afconvert(source: Path | bytes, name: str, rate: int) -> Recording:
    command = ["afconvert", "-f", "WAVE", "-d", "LEF32", "{in}", "{out}"]
    return _converted(command, source, name, rate)


def with_ffmpeg(
    source: Path | bytes, name: str, rate: int, track: int | None = None
) -> Recording:
    quiet = ["ffmpeg", "-nostdin", "-v", "error", "-y"]
    only = [word for name, value in ONLY_MEDIA.items() for word in (f"-{name}", value)]
    # Silence where the time stamps leave sound out, also in front.
    wanted = ["-vn", "-sn", "-dn"] if track is None else ["-map", f"0:a:{track - 1}"]
    wanted += ["-af", "aresample=async=1:first_pts=0"]
    form = ["-f", "wav", "-c:a", "pcm_f32le", "-rf64", "auto"]
    command = [*quiet, *only, "-i", "file:{in}", *wanted, *form, "file:{out}"]
    return _converted(command, source, name, rate)


def _converted(
    command: list[str], source: Path | bytes, name: str, rate: int
) -> Recording:
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
        found = with_soundfile(target, name, rate)
        if FAULT.search(done.stderr) and not found.damage:
            damage = f"{name} is damaged: only {found.heard:.1f} s could be read."
            return replace(found, damage=damage)
        return found
