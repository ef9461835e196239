"""Many channels to one, and one of several sound tracks."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sounds import write_tracks

from mlx_gemma4.audio.channels import Downmix
from mlx_gemma4.audio.files import RATE, read_audio
from mlx_gemma4.errors import MediaError

SECONDS = 2
RANDOM = np.random.default_rng(1)
SPEECH = 0.3 * np.sin(np.arange(SECONDS * RATE) / 5)  # stands for it
ORDERS = {
    "WAVEX": ["FL", "FR", "FC", "LFE", "BL", "BR"],
    "FLAC": ["FL", "FR", "FC", "LFE", "BL", "BR"],
    "OGG": ["FL", "FC", "FR", "BL", "BR", "LFE"],
}


def noise(level: float) -> np.ndarray:
    return level * RANDOM.standard_normal(SECONDS * RATE)


def share(heard: np.ndarray, wanted: np.ndarray) -> float:
    """How much of the power heard is `wanted`, 0 to 1."""
    n = min(len(heard), len(wanted))
    heard, wanted = heard[:n].astype(float), wanted[:n].astype(float)
    norm = np.sqrt((heard**2).sum() * (wanted**2).sum())
    return float((heard * wanted).sum() / norm) ** 2 if norm else 0.0


def read(channels: list[np.ndarray], format: str = "WAV") -> np.ndarray:
    out = io.BytesIO()
    soundfile.write(out, np.stack(channels, 1), RATE, format=format)
    return read_audio(out.getvalue())


def film(order: list[str]) -> list[np.ndarray]:
    """Dialogue in the centre, noise all round, a rumble for the low effects."""
    sounds = {name: noise(0.1) for name in order}
    return [*map({**sounds, "FC": SPEECH, "LFE": noise(0.25)}.__getitem__, order)]


@pytest.mark.parametrize("format", ORDERS)
def test_dialogue_is_in_the_centre(format: str) -> None:
    """Whatever the order in which a format keeps its channels."""
    channels = film(ORDERS[format])
    heard = read(channels, format)
    assert share(heard, SPEECH) > 0.7
    plain = np.mean(channels, 0)
    assert share(plain, SPEECH) < 0.5 * share(heard, SPEECH)


def test_dialogue_in_a_film_s_container(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "film.mkv", [film(ORDERS["FLAC"])], codec="aac")
    assert share(read_audio(path), SPEECH) > 0.7


def test_channels_that_nobody_names_are_averaged() -> None:
    """Microphones, side by side: none of them may be left out."""
    for place in range(6):
        channels = [np.zeros(len(SPEECH))] * 6
        channels[place] = SPEECH
        np.testing.assert_allclose(read(channels), SPEECH / 6, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 8])
def test_a_mean_is_a_mean(channels: int) -> None:
    block = RANDOM.standard_normal((500, channels)).astype(np.float32)
    found = Downmix().mono(block, RATE)
    np.testing.assert_array_equal(found, block.mean(axis=1, dtype=np.float32))


@pytest.mark.parametrize("level", [-1.0, -0.95])
def test_opposite_phase(level: float) -> None:
    heard = read([SPEECH, level * SPEECH])
    assert share(heard, SPEECH) > 0.99
    assert 0.9 < np.abs(heard).max() / np.abs(SPEECH).max() < 1.1


def test_opposite_phase_with_pauses_between() -> None:
    """Where nothing sounds there is no jump, and what follows is heard again."""
    spoken = SPEECH.copy()
    spoken[RATE // 2 : RATE] = 0
    heard = read([spoken, -spoken])
    assert share(heard, spoken) > 0.99
    assert np.abs(heard[RATE // 2 + 99 : RATE - 99]).max() < 1e-3


@pytest.mark.parametrize(
    "channels",
    [
        lambda: [SPEECH, SPEECH],
        lambda: [SPEECH, np.zeros(len(SPEECH))],
        lambda: [SPEECH + noise(0.1), -noise(0.1)],
        lambda: [SPEECH, -0.5 * SPEECH],
        lambda: [noise(0.1), noise(0.1)],
    ],
)
def test_ordinary_stereo_is_averaged(channels: Any) -> None:
    given = channels()
    np.testing.assert_allclose(read(given), np.mean(given, 0), atol=1e-3)


def test_the_track_that_players_take(tmp_path: Path) -> None:
    silent = np.zeros(len(SPEECH))
    path = write_tracks(tmp_path / "a.mkv", [[silent], [SPEECH]], default=1)
    with pytest.warns(UserWarning, match="has 2 sound tracks: track 2 is heard; --tr"):
        heard = read_audio(path)
    assert share(heard, SPEECH) > 0.99
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not read_audio(path, track=1).any()
        assert share(read_audio(path, track=2), SPEECH) > 0.99


@pytest.mark.parametrize(
    ("track", "told"),
    [
        (3, r"a\.mkv has 2 sound tracks: there is no track 3"),
        (0, "track is 0; sound tracks are counted from 1"),
        ("2", "track is '2'; sound tracks are counted from 1"),
    ],
)
def test_no_such_track(tmp_path: Path, track: Any, told: str) -> None:
    path = write_tracks(tmp_path / "a.mkv", [[SPEECH], [SPEECH]])
    with pytest.raises(MediaError, match=told):
        read_audio(path, track=track)


def test_the_track_of_a_recording(tmp_path: Path) -> None:
    """A file of sound alone has one."""
    soundfile.write(tmp_path / "a.wav", SPEECH, RATE)
    assert share(read_audio(tmp_path / "a.wav", track=1), SPEECH) > 0.99
    pytest.importorskip("av", reason="PyAV is not installed (extra `media`)")
    with pytest.raises(MediaError, match="has 1 sound track: there is no track 2"):
        read_audio(tmp_path / "a.wav", track=2)
