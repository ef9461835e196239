"""Decoding: formats, rates, channels, and files that are not what they seem."""

import importlib
import importlib.util
import stat
import sys

import mlx.core as mx
import numpy as np
import pytest
import soundfile
from sounds import FORMATS, LOSSY, needs_pyav, recording, tone, write

from mlx_gemma4.audio import files, mixing
from mlx_gemma4.audio.files import RATE, read_audio
from mlx_gemma4.audio.mixing import Unreadable
from mlx_gemma4.errors import MediaError, install_command
from mlx_gemma4.reading import sources


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Away from the ends, where filters ring."""
    inner = slice(RATE // 10, len(expected) - RATE // 10)
    difference = found[inner] - expected[inner]
    return float(np.linalg.norm(difference) / np.linalg.norm(expected[inner]))


@pytest.mark.parametrize("kind", FORMATS)
def test_formats(tmp_path, kind):
    path = write(tmp_path / f"sound.{kind}", tone(2, 48_000), 48_000)
    found = read_audio(path)
    assert found.dtype == np.float32 and len(found) == 2 * RATE
    assert relative_error(found, tone(2, RATE)) < LOSSY.get(kind, 1e-4)
    assert np.array_equal(found, read_audio(str(path)))
    assert np.array_equal(found, read_audio(path.read_bytes()))


@pytest.mark.parametrize(
    "rate", [8000, 11_025, 16_000, 22_050, 44_100, 96_000, 192_000]
)
def test_rates(rate):
    found = read_audio((tone(2, rate), rate))
    assert abs(len(found) - 2 * RATE) <= 1
    assert relative_error(found, tone(2, RATE)[: len(found)]) < 1e-3


def test_the_models_own_rate_is_left_alone():
    sound = recording(12_345)
    assert np.array_equal(read_audio((sound, RATE)), sound)


def test_what_the_model_cannot_hear_does_not_come_back_lower():
    assert np.abs(read_audio((tone(2, 48_000, 12_000), 48_000)))[800:-800].max() < 1e-4


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_are_averaged(tmp_path, channels):
    sound = np.stack([recording(8000) * (i + 1) / 8 for i in range(channels)], axis=1)
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    expected = sound.mean(axis=1)
    assert np.abs(read_audio(tmp_path / "a.wav") - expected).max() < 1e-6
    assert np.abs(read_audio((sound, RATE)) - expected).max() < 1e-6


@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        (np.array([0, 16_384, -32_768], np.int16), [0, 0.5, -1]),
        (np.array([0, 2**30, -(2**31)], np.int32), [0, 0.5, -1]),
        (np.array([128, 192, 0], np.uint8), [0, 0.5, -1]),
    ],
    ids=["int16", "int32", "uint8"],
)
def test_whole_numbers_are_scaled(whole, expected):
    assert read_audio((whole, RATE)).tolist() == expected


def test_arrays_of_mlx_and_of_other_floats():
    sound = recording(1000)
    assert np.array_equal(read_audio((mx.array(sound), RATE)), sound)
    assert np.array_equal(read_audio((sound.astype(np.float64), RATE)), sound)


@pytest.mark.parametrize("kind", ["mp3", "ogg", "flac"])
def test_blocks_join_without_a_click(tmp_path, kind):
    path = write(tmp_path / f"long.{kind}", recording(20 * RATE), RATE)
    whole, _ = soundfile.read(path, dtype="float32")
    assert np.abs(read_audio(path) - whole).max() < 1e-6


@pytest.mark.parametrize(("kind", "name"), [("flac", "a.raw"), ("mp3", "a.wav")])
def test_the_content_counts_not_the_name(tmp_path, kind, name):
    path = write(tmp_path / f"sound.{kind}", tone(1, RATE), RATE)
    expected = read_audio(path)
    assert np.array_equal(read_audio(path.rename(tmp_path / name)), expected)


@pytest.mark.parametrize(
    ("subtype", "steps"),
    [("PCM_U8", 128), ("PCM_16", 2**15), ("PCM_24", 2**23), ("FLOAT", 2**24)],
)
@pytest.mark.parametrize("channels", [1, 6])
def test_kinds_of_wav(tmp_path, subtype, steps, channels):
    """Of any depth, also with the six channels of 5.1 sound."""
    sound = recording(4000) / 2
    both = np.stack([sound] * channels, axis=1)
    soundfile.write(tmp_path / "a.wav", both, RATE, subtype=subtype)
    assert np.abs(read_audio(tmp_path / "a.wav") - sound).max() <= 1 / steps


# libsndfile takes a length of nothing at its word; PyAV, an extra, reads on.
@pytest.mark.parametrize(
    "stated", [b"\xff" * 4, pytest.param(bytes(4), marks=needs_pyav)]
)
def test_a_wav_that_was_streamed(tmp_path, stated):
    """A program that writes into a pipe cannot say how long the sound will be."""
    data = bytearray(write(tmp_path / "a.wav", recording(RATE), RATE).read_bytes())
    data[4:8] = stated
    sizes = data.index(b"data") + 4
    data[sizes : sizes + 4] = stated
    assert len(read_audio(bytes(data))) == RATE


def test_silence_is_a_recording(tmp_path):
    path = write(tmp_path / "a.wav", np.zeros(RATE, np.float32), RATE)
    assert np.array_equal(read_audio(path), np.zeros(RATE))


@pytest.mark.parametrize(
    "data",
    [b"RIFF", b"not a recording " * 20, bytes(range(256)) * 20, b"ID3" + bytes(500)],
    ids=["begun", "text", "bytes", "id3"],
)
def test_what_is_no_recording(tmp_path, data):
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"a\.wav cannot be decoded \(soundfile: .*\)"):
        read_audio(path)


def test_without_other_decoders_the_remedies_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MediaError) as caught:
        read_audio(b"an aac file")
    for remedy in (install_command("media"), "ffmpeg on the PATH", "convert it to wav"):
        assert remedy in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(tmp_path, bad):
    sound = recording(1000)
    sound[500] = bad
    with pytest.raises(MediaError, match="The sound holds samples that are not num"):
        read_audio((sound, RATE))
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    with pytest.raises(MediaError, match=r"a\.wav holds samples that are not numbers"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("samples", "rate", "told"),
    [
        (recording(100) * 30_000, RATE, r"have to lie in -1\.\.1"),
        (np.zeros((2, 100), np.float32), RATE, r"shape \(2, 100\)"),
        (np.zeros((9, 2, 2), np.float32), RATE, "shape"),
        (np.zeros(0, np.float32), RATE, "no samples"),
        (np.zeros((0, 2), np.float32), RATE, "no samples"),
        (np.zeros(100, np.int64), RATE, "type int64"),
        (np.zeros(100, bool), RATE, "type bool"),
        (recording(100), 0, "0 samples per second"),
        (recording(100), -16_000, "-16000 samples per second"),
        (recording(100), float("nan"), "not a number"),
        (recording(100), True, "1 samples per second"),
        (recording(100), "16000", "not a number"),
    ],
)
def test_arrays_that_make_no_sense(samples, rate, told):
    with pytest.raises(MediaError, match=told):
        read_audio((samples, rate))


@needs_pyav
def test_aac_through_pyav(tmp_path, monkeypatch):
    import av

    monkeypatch.setenv("PATH", "")
    path = tmp_path / "memo.m4a"
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=44_100, layout="stereo")
        both = np.stack([tone(2, 44_100), tone(2, 44_100)])
        frame = av.AudioFrame.from_ndarray(both, format="fltp", layout="stereo")
        frame.sample_rate = 44_100
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    found = read_audio(path)
    assert len(found) == pytest.approx(2 * RATE, abs=RATE // 10)
    assert np.abs(found[RATE // 4 : -RATE // 4]).max() == pytest.approx(0.5, rel=0.1)
    assert np.array_equal(found, read_audio(path.read_bytes()))


@needs_pyav
def test_a_recording_of_nothing(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", recording(0), RATE)
    with pytest.raises(MediaError, match=r"a\.wav holds no sound\.$"):
        read_audio(path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MediaError, match="it holds no sound.*install PyAV"):
        read_audio(path)


@needs_pyav
def test_a_video_without_sound(tmp_path):
    import av

    path = tmp_path / "mute.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    with pytest.raises(MediaError, match=r"mute\.mp4 holds no sound\.$"):
        read_audio(path)


@needs_pyav
def test_a_playlist_opens_nothing_elsewhere(tmp_path):
    secret = write(tmp_path / "secret.mp3", tone(1, RATE), RATE)
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/{secret.name}\n")
    with pytest.raises(MediaError, match="is a playlist: name the recordings"):
        read_audio(playlist)


@needs_pyav
def test_a_list_of_files_opens_none_of_them(tmp_path, monkeypatch):
    """Also where its text is not known for what it is."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "private.wav", tone(1, RATE), RATE)
    text = b"ffconcat version 1.0\nfile private.wav\n"
    talk = tmp_path / "talk.m4a"
    talk.write_bytes(text)
    for source in (talk, text):
        with pytest.raises(MediaError, match="is a playlist"):
            read_audio(source)
    monkeypatch.setattr(sources, "refuse_playlist", lambda *_: None)
    for source in (talk, text):
        with pytest.raises(MediaError, match="cannot be decoded"):
            read_audio(source)
    # FFmpeg as it is opens it, so the test above can fail.
    av = importlib.import_module("av")
    with av.open(str(talk), options={"protocol_whitelist": "file"}) as opened:
        assert opened.format.name == "concat"


@pytest.mark.parametrize("program", ["afconvert", "ffmpeg"])
def test_other_programs_get_a_turn(tmp_path, monkeypatch, program):
    """A stand-in that checks its arguments and hands over a wav file."""
    write(tmp_path / "decoded.wav", tone(1, 44_100), 44_100)
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / program
    script.write_text(
        f"#!/bin/sh\nfor last; do :; done\n"
        f"echo \"$@\" > '{tmp_path}/arguments'\n"
        f"/bin/cp '{tmp_path}/decoded.wav' \"${{last#file:}}\"\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))
    odd = tmp_path / "-v {out}.m4a"
    odd.write_bytes(b"something only it can read")
    assert len(read_audio(odd)) == RATE
    assert f"{tmp_path}/-v {{out}}.m4a" in (tmp_path / "arguments").read_text()
    assert len(read_audio(odd.read_bytes())) == RATE


def test_a_program_that_fails_is_quoted(tmp_path, monkeypatch):
    script = tmp_path / "ffmpeg"
    script.write_text("#!/bin/sh\necho first >&2\necho no such codec >&2\nexit 1\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MediaError, match="ffmpeg: no such codec"):
        read_audio(b"something else")


def test_without_a_way_to_a_second_track_no_reason_is_made_up(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", tone(1, RATE), RATE)
    monkeypatch.setattr(files, "with_pyav", nothing)
    monkeypatch.setattr(files, "with_ffmpeg", nothing)
    with pytest.raises(MediaError, match=r"a\.wav cannot be decoded\. "):
        read_audio(path, track=2)


def test_more_sound_than_memory_should_hold(tmp_path, monkeypatch):
    """Silence of days takes a few megabytes of a file."""
    path = write(tmp_path / "a.flac", np.zeros(3 * RATE, np.float32), RATE)
    monkeypatch.setattr(mixing, "LONGEST", 2.0)
    with pytest.raises(MediaError, match="more than .* hours of sound: cut it"):
        read_audio(path)


def nothing(*_, **__):
    raise Unreadable
