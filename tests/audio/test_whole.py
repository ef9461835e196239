"""All of a recording: lengths that are missing or wrong, joined files, bad spots."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import recording, write

from mlx_gemma4.audio import libsndfile
from mlx_gemma4.audio.files import RATE, read_recording
from mlx_gemma4.audio.libsndfile import with_soundfile
from mlx_gemma4.audio.mixing import Mixer, Recording, Unreadable
from mlx_gemma4.audio.mpeg import walk
from mlx_gemma4.audio.ogg import links
from mlx_gemma4.errors import MediaError

ID3 = b"ID3\3\0\0\0\0\x1f\x76" + b"\xff\xfb\x90\x64" * 1004 + bytes(70)  # 4096 bytes
ID3_AT_END = b"TAG" + b"a title".ljust(125, b"\0")


def mp3(path: Path, seconds: float, rate: int = RATE) -> bytes:
    """A quiet start, so that the first frames tell little of the others."""
    sound = recording(round(seconds * rate))
    sound[: len(sound) // 4] *= 1e-3
    soundfile.write(path, sound, rate, bitrate_mode="VARIABLE", compression_level=0.3)
    return path.read_bytes()


def header(data: bytes) -> int:
    return max(data.find(b"Xing"), data.find(b"Info"))


def headless(data: bytes) -> bytes:
    """Without the frame that states the length, as programs write it into a pipe."""
    return data[data.index(data[:2], header(data)) :]


def with_count(data: bytes, frames: int) -> bytes:
    at = header(data) + 8
    return data[:at] + struct.pack(">I", frames) + data[at + 4 :]


def seconds(found: Recording) -> float:
    return len(found.samples) / RATE


@pytest.fixture
def talk(tmp_path):
    return mp3(tmp_path / "talk.mp3", 8)


@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_an_mp3_without_a_header(tmp_path, rate):
    data = headless(mp3(tmp_path / "talk.mp3", 8, rate))
    # What libsndfile makes of it shows that the header was needed.
    (tmp_path / "pipe.mp3").write_bytes(data)
    assert abs(soundfile.info(tmp_path / "pipe.mp3").duration - 8) > 1
    found = read_recording(data)
    assert seconds(found) == pytest.approx(8, abs=0.2) and not found.damage


@pytest.mark.parametrize("frames", [0, 1, 40, 99_999])
def test_an_mp3_with_a_wrong_header(talk, frames):
    found = read_recording(with_count(talk, frames))
    assert seconds(found) == pytest.approx(8, abs=0.1) and not found.damage


def test_an_mp3_with_another_kind_of_header(talk):
    frame = bytearray(talk[: talk.index(talk[:2], header(talk))])
    frame[4:] = bytes(len(frame) - 4)
    frame[36:58] = b"VBRI" + struct.pack(">HHHIII", 1, 0, 75, 300, 3, 0)[:18]
    found = read_recording(bytes(frame) + headless(talk))
    assert seconds(found) == pytest.approx(8, abs=0.2) and not found.damage


def test_joined_mp3s(tmp_path, talk):
    ad = mp3(tmp_path / "ad.mp3", 2)
    other = mp3(tmp_path / "other.mp3", 3, 44_100)
    for joined, due in (
        (ad + talk, 10),
        (ID3 + ad + ID3_AT_END + ID3 + talk + ID3_AT_END, 10),
        (ad + other + headless(talk), 13),
    ):
        found = read_recording(joined)
        assert seconds(found) == pytest.approx(due, abs=0.25), due
        assert not found.damage
        assert np.abs(found.samples[-6 * RATE : -5 * RATE]).max() > 0.5


@pytest.mark.parametrize("kind", ["ogg", "opus"])
def test_joined_oggs(tmp_path, kind):
    links = [
        write(tmp_path / f"{i}.{kind}", recording(n * rate), rate).read_bytes()
        for i, (n, rate) in enumerate(((2, RATE), (3, RATE), (4, 48_000)))
    ]
    other = write(tmp_path / "other.ogg", recording(2 * RATE), RATE).read_bytes()
    found = read_recording(b"".join(links) + other)
    assert seconds(found) == pytest.approx(11, abs=0.05) and not found.damage


def spoilt(data: bytes, at: float, size: int) -> bytes:
    first = int(len(data) * at)
    noise = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    return data[:first] + noise + data[first + size :]


@pytest.mark.parametrize(
    "kind", ["mp3", "flac", "ogg", pytest.param("opus", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("size", [300, 5000])
def test_a_bad_spot_costs_no_more_than_itself(tmp_path, capfd, kind, size):
    """Also without PyAV; and what comes behind it is where it was."""
    path = write(tmp_path / f"a.{kind}", recording(20 * RATE), RATE)
    whole = with_soundfile(path, "a", RATE)
    assert not whole.damage
    found = with_soundfile(spoilt(path.read_bytes(), 0.3, size), "a", RATE)
    assert seconds(found) == pytest.approx(20, abs=0.15)
    assert found.heard == pytest.approx(20, abs=3.5)
    told = re.search(r"only (\S+) of (\S+) s .*missing: \S+ s at (\S+) s", found.damage)
    assert told is not None, found.damage
    assert float(told[1]) == pytest.approx(found.heard, abs=0.05)
    assert 3 < float(told[3]) < 9
    for sound in (found, whole):  # the tone ends at 10 s
        loud = np.flatnonzero(np.abs(sound.samples) > 0.3)[-1] / RATE
        assert loud == pytest.approx(10, abs=0.2)
    assert capfd.readouterr().err == ""


def test_other_lines_on_stderr_are_kept(talk, capfd):
    import os

    from mlx_gemma4.audio.libsndfile import without_its_lines

    with without_its_lines():
        os.write(2, b"Note: Trying to resync...\nsomething else\n")
    assert capfd.readouterr().err == "something else\n"


@pytest.mark.parametrize("end", [0.5, 0.97])
@pytest.mark.parametrize("kind", ["mp3", "headless", "flac", "ogg", "opus", "caf"])
def test_a_cut_end_is_told(tmp_path, kind, end):
    """An odd place, as a broken download ends at."""
    suffix = "mp3" if kind == "headless" else kind
    data = write(tmp_path / f"a.{suffix}", recording(8 * RATE), RATE).read_bytes()
    data = headless(data) if kind == "headless" else data
    found = with_soundfile(data[: int(len(data) * end) | 1], "a", RATE)
    assert "a is damaged: only" in found.damage
    assert 2.5 < seconds(found) < 8.0


def test_an_mp3_cut_between_two_frames_is_told(talk):
    end = talk.index(talk[:2], len(talk) // 2)
    assert "of 8.0 s could be read" in read_recording(talk[:end]).damage


@pytest.mark.parametrize(("spots", "told"), [(5, "1"), (40, r"1\d")])
def test_many_bad_spots(tmp_path, spots, told):
    data = write(tmp_path / "a.flac", recording(20 * RATE), RATE).read_bytes()
    for i in range(spots):
        data = spoilt(data, 0.1 + 0.8 * i / spots, 10)
    found = read_recording(data)
    assert seconds(found) == pytest.approx(20, abs=0.01)
    assert re.search(rf"{told} more places", found.damage)


@pytest.mark.parametrize("seconds_", [0.05, 0.2, 1])
def test_a_short_mp3(tmp_path, seconds_):
    data = mp3(tmp_path / "a.mp3", seconds_)
    for whole in (data, headless(data), ID3 + data + ID3_AT_END):
        found = read_recording(whole)
        assert seconds(found) == pytest.approx(seconds_, abs=0.25) and not found.damage


def test_what_only_begins_like_an_mp3():
    noise = np.random.default_rng(0).integers(0, 256, 40_000, np.uint8).tobytes()
    for data in (ID3 + noise, b"\xff\xf1" + noise, ID3 + b"\xff\xf1" + noise, ID3):
        assert walk(data) is None


@pytest.mark.parametrize("worst", [1e6, np.inf, np.nan])
def test_what_a_decoder_makes_of_damage_is_no_sound(worst):
    for compressed in (True, False):
        mixer = Mixer("a", RATE)
        mixer.compressed = compressed
        mixer.add(np.full((RATE, 1), 0.5, np.float32), RATE)
        bad = np.full((RATE // 2, 2), worst, np.float32)
        if compressed:
            mixer.add(bad, RATE)
            found = mixer.finish()
            assert seconds(found) == 1.5 and "0.50 s at 1.0 s" in found.damage
            assert not found.samples[RATE:].any()
        else:
            with pytest.raises(MediaError):
                mixer.add(bad, RATE)


def test_a_day_of_mp3_is_left_to_others(talk, monkeypatch):
    monkeypatch.setattr(libsndfile, "LARGEST", len(talk) - 1)
    with pytest.raises(Unreadable, match="MB of mp3"):
        with_soundfile(talk, "a", RATE)


def test_an_mp3_that_begins_damaged(talk, capfd):
    found = read_recording(talk[:600] + bytes(900) + talk[1500:])
    assert 7 < seconds(found) < 8.5 and found.damage
    with pytest.raises(MediaError):
        read_recording(talk[:4] + bytes(5000))
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_no_flipped_bit_of_a_flac_is_silent(tmp_path):
    data = write(tmp_path / "a.flac", recording(10 * RATE), RATE).read_bytes()
    draw = np.random.default_rng(0)
    for at in draw.integers(len(data) // 10, len(data), 30).tolist():
        flipped = bytearray(data)
        flipped[at] ^= 1 << int(draw.integers(8))
        found = read_recording(bytes(flipped))
        assert found.damage and seconds(found) == pytest.approx(10, abs=0.01), at


@pytest.mark.parametrize(
    "tail",
    [
        ID3_AT_END,
        bytes(5000),
        b"APETAGEX"
        + struct.pack("<IIII8x", 2000, 92, 1, 1 << 31)
        + bytes(60)
        # The size counts what is behind the head: 60 bytes and the end.
        + b"APETAGEX"
        + struct.pack("<IIII8x", 2000, 92, 1, 0),
    ],
    ids=["id3", "zeros", "ape"],
)
def test_what_stands_behind_a_flac_is_no_damage(tmp_path, tail):
    data = write(tmp_path / "a.flac", recording(5 * RATE), RATE).read_bytes()
    whole, found = read_recording(data), read_recording(data + tail)
    assert found.damage == ""
    assert np.array_equal(found.samples, whole.samples)


def test_joined_flacs(tmp_path):
    data = write(tmp_path / "a.flac", recording(5 * RATE), RATE).read_bytes()
    found = read_recording(data + data)
    assert (found.damage, seconds(found)) == ("", pytest.approx(10, abs=0.01))
    cut = read_recording(data + data[:-5000])
    assert "of 10.0 s could be read" in cut.damage


def test_a_flac_without_any_frame(tmp_path):
    data = write(tmp_path / "a.flac", recording(RATE), RATE).read_bytes()
    with pytest.raises(MediaError, match="holds no sound|cannot be decoded"):
        read_recording(data[:42] + b"\xff" * 5000)


def test_what_stands_behind_all_frames_of_an_mp3_is_no_damage(talk):
    found = read_recording(talk + b"words and words " * 400)
    assert (found.damage, seconds(found)) == ("", pytest.approx(8, abs=0.1))


def test_marks_without_pages_are_given_up():
    """Each could cost the checksum of 65 kB."""
    assert links((b"OggS\0" + b"\xff" * 22) * 5000) is None
