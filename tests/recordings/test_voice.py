"""Where somebody speaks: real words at known times, behind noises of all kinds."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from mlx_gemma4 import Chunk
from mlx_gemma4.audio.framing import AudioFeatureConfig
from mlx_gemma4.errors import MediaError
from mlx_gemma4.recordings import transcribe as room
from mlx_gemma4.recordings.loops import once
from mlx_gemma4.recordings.pieces import RATE, cut
from mlx_gemma4.recordings.voice import Voices

SPEECH = Path(__file__).parents[2] / "assets" / "speech.wav"
# Two stretches of it without a pause, less what is silent at their ends, in seconds.
STRETCHES = ((0.04, 2.55), (2.78, 4.53))
PAUSES = (8.0, 1.5, 4.0, 3.0)


def spoken() -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Speech after pauses, and when it is to be heard."""
    sound, rate = soundfile.read(SPEECH, dtype="float32")
    assert rate == RATE
    parts, times, at = [], [], 0.0
    for i, pause in enumerate(PAUSES):
        parts.append(np.zeros(round(pause * RATE), np.float32))
        at += pause
        if i < 3:
            start, end = STRETCHES[i % 2]
            parts.append(sound[round(start * RATE) : round(end * RATE)])
            times.append((at, at + end - start))
            at += end - start
    return np.concatenate(parts), times


def noise(kind: str, length: int) -> np.ndarray:
    random = np.random.default_rng(0)
    white = random.standard_normal(length).astype(np.float32)
    if kind == "none":
        return np.zeros(length, np.float32)
    if kind == "hum":
        return 0.01 * np.sin(
            np.arange(length) * 2 * np.pi * 50 / RATE, dtype=np.float32
        )
    if kind == "clicks":
        return np.where(random.random(length) < 2 / RATE, 0.5, 0).astype(np.float32)
    return white * np.float32(10 ** (float(kind) / 20))


def slow(*kinds: str) -> list[Any]:
    return [pytest.param(kind, marks=pytest.mark.slow) for kind in kinds]


@pytest.mark.parametrize(
    "kind", ["none", "-54", *slow("-66", "-40", "-32", "hum", "clicks")]
)
def test_speech_is_found_behind_noise(kind):
    sound, times = spoken()
    found = Voices().parts(sound + noise(kind, len(sound)), start=100)
    assert len(found) == len(times), found
    for part, (start, end) in zip(found, times, strict=True):
        assert part.start - 100 == pytest.approx(start, abs=0.3)
        assert part.end - 100 == pytest.approx(end, abs=0.3)


def test_quiet_speech_is_speech():
    sound, times = spoken()
    assert len(Voices().parts(sound * np.float32(1e-3))) == len(times)


@pytest.mark.parametrize("kind", ["none", "-36", *slow("-60", "hum", "clicks")])
def test_noise_is_none(kind):
    assert Voices().parts(noise(kind, 10 * RATE)) == []


class Deaf:
    """A model that invents a word for every piece."""

    def __init__(self, says: str) -> None:
        self.says, self.asked = says, 0

    def __call__(self, model, processor, asked, rows: int) -> Iterator[list[Chunk]]:
        for _ in asked:
            self.asked += 1
            yield [Chunk(self.says, 1, finish_reason="stop")]


def transcribed(monkeypatch, sound: np.ndarray, says: str) -> tuple[Deaf, list, list]:
    model = SimpleNamespace(config=SimpleNamespace(audio_config=object()))
    processor = SimpleNamespace(media=SimpleNamespace(audio=AudioFeatureConfig()))
    deaf = Deaf(says)
    monkeypatch.setattr(room, "in_order", deaf)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        segments = list(room.transcribe(model, processor, sound))  # type: ignore[arg-type]
    return deaf, segments, [str(warning.message) for warning in told]


def test_noise_is_not_sent_and_that_is_told(monkeypatch):
    deaf, segments, told = transcribed(monkeypatch, noise("-40", 10 * RATE), "close")
    assert (deaf.asked, segments) == (0, [])
    assert told == ["There is sound but no speech at 0.0 to 10.0 s."]


@pytest.mark.slow
def test_noise_of_several_pieces_is_told_as_one(monkeypatch):
    deaf, segments, told = transcribed(monkeypatch, noise("-40", 70 * RATE), "close")
    assert (deaf.asked, segments) == (0, [])
    assert told == ["There is sound but no speech at 0.0 to 70.0 s."]


@pytest.mark.slow
def test_what_fails_of_one_recording_leaves_the_others(monkeypatch):
    model = SimpleNamespace(config=SimpleNamespace(audio_config=object()))
    processor = SimpleNamespace(media=SimpleNamespace(audio=AudioFeatureConfig()))
    sound, read = spoken()[0], []

    def unreadable() -> np.ndarray:
        raise MediaError("It is damaged.")

    def given(number: int) -> np.ndarray:
        read.append(number)
        return np.tile(sound, 3)

    def answers(model, processor, asked, rows: int) -> Iterator[Iterator[Chunk]]:
        def fail() -> Iterator[Chunk]:
            raise MediaError("It cannot be heard.")
            yield

        for number, _ in enumerate(asked):
            said = Chunk(f"piece {number}", 1, finish_reason="stop")
            yield fail() if number == 1 else iter([said])

    monkeypatch.setattr(room, "in_order", answers)
    recordings = [unreadable, lambda: given(1), lambda: given(2)]
    heard = room.transcribe_each(model, processor, recordings)  # type: ignore[arg-type]
    with pytest.raises(MediaError, match="damaged"):
        list(next(heard))
    with pytest.raises(MediaError, match="cannot be heard"):
        list(next(heard))
    pieces = len(list(cut(np.tile(sound, 3), 30.0)))
    assert pieces > 2
    first = next(iter(next(heard)))
    assert first.text == f"piece {pieces}" and read == [1, 2]
    assert next(heard, None) is None  # what is left of one is given up


def test_a_segment_lasts_from_the_first_word_to_the_last(monkeypatch):
    sound, times = spoken()
    deaf, (segment,), told = transcribed(
        monkeypatch, sound + noise("-54", len(sound)), "a"
    )
    assert deaf.asked == 1 and told == [] and len(segment.parts) == len(times)
    assert segment.start == pytest.approx(times[0][0], abs=0.3)
    assert segment.end == pytest.approx(times[-1][1], abs=0.3)


def test_a_loop_is_cut_and_told(monkeypatch):
    _, (segment,), told = transcribed(monkeypatch, spoken()[0], "So " + "you " * 220)
    assert segment.text == "So you"
    assert told == [
        "From 7.7 to 20.5 s the model repeated itself (220 times: you); that is kept "
        "once."
    ]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Thank you. " * 30 + "Now on.", "Thank you. Now on."),
        ("no, no, no, no, never", "no, no, no, no, never"),
        ("ha" * 300, "ha"),
        ("哈" * 50, "哈"),
        ("我们走吧。" * 20, "我们走吧。"),
        ("It is what it is. It is what it is.", "It is what it is. It is what it is."),
        ("1 2 3 4 5 6 " * 9 + "7", "1 2 3 4 5 6 7"),
        (
            "We say: I think I Think, i think " + "i think " * 9 + "so.",
            "We say: I think so.",
        ),
        ("", ""),
    ],
)
def test_repetitions(text, kept):
    assert once(text).text.strip() == kept


def test_pieces_of_noise_are_not_lost_from_the_times():
    """The cutter leaves out long silence; times go on behind it."""
    sound, times = spoken()
    silence = np.zeros(60 * RATE, np.float32)
    pieces = list(cut(np.concatenate([silence, sound])))
    (part, *_) = Voices().parts(pieces[0].samples, pieces[0].start)
    assert part.start == pytest.approx(60 + times[0][0], abs=0.3)
