"""Log-mel frames and soft-token counts against the reference."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from places import FIXTURES
from sounds import recording

from mlx_gemma4.audio.features import features_of, log_mel, mel_filters
from mlx_gemma4.audio.framing import (
    FRAMES_PER_TOKEN,
    AudioFeatureConfig,
    AudioSampleConfig,
    valid_frames,
)
from mlx_gemma4.errors import CheckpointError, MediaError
from mlx_gemma4.prompt.attachments import MediaSettings

FIXTURE = FIXTURES / "audio_features.npz"
CONFIG = AudioFeatureConfig()
RATE = CONFIG.sampling_rate
# From 0.01 s, the shortest that gives a frame, to the model's limit.
LENGTHS = (161, 320, 321, 480, 481, 1599, 1600, 1601, 16_100, 47_999, 160_000, 480_000)


def stated_in(folder: Path) -> AudioFeatureConfig:
    found = MediaSettings.from_file(folder / "processor_config.json").audio
    assert isinstance(found, AudioFeatureConfig)
    return found


def soft_tokens(length: int) -> int:
    """Of a recording of so many samples."""
    return -(-valid_frames(length, CONFIG) // FRAMES_PER_TOKEN)


def difference(features: mx.array, expected: np.ndarray) -> float:
    assert features.shape == expected.shape and features.dtype == mx.float32
    return float(np.abs(np.array(features) - expected).max())


@pytest.mark.parametrize("length", [161, 1440, 4001])
def test_frames_are_those_of_the_fixture(length):
    fixture = np.load(FIXTURE)
    features, mask = log_mel(recording(length), CONFIG)
    assert difference(features, fixture[f"frames-{length}"]) <= 1e-5
    assert np.array_equal(np.array(mask), fixture[f"mask-{length}"])


@pytest.mark.reference
@pytest.mark.parametrize("length", LENGTHS)
def test_frames_are_the_references(length):
    from transformers import Gemma4AudioFeatureExtractor

    expected = Gemma4AudioFeatureExtractor()([recording(length)], return_tensors="np")
    features, mask = log_mel(recording(length), CONFIG)
    assert difference(features, expected["input_features"][0]) <= 1e-5
    assert np.array_equal(np.array(mask), expected["input_features_mask"][0])


@pytest.mark.reference
@pytest.mark.parametrize(
    "stated",
    [
        {"preemphasis": 0.97},
        {"preemphasis": 0.97, "preemphasis_htk_flavor": False},
        {"input_scale_factor": 0.5, "mel_floor": 1e-5},
        {"min_frequency": 125.0, "max_frequency": 7500.0, "fft_overdrive": True},
        {"frame_length_ms": 32.0, "hop_length_ms": 8.0, "feature_size": 80},
        {"per_bin_mean": [0.5] * 128, "per_bin_stddev": [2.0] * 128},
    ],
    ids=lambda stated: "-".join(stated),
)
def test_other_constants_are_the_references(tmp_path, stated):
    from transformers import Gemma4AudioFeatureExtractor

    (tmp_path / "processor_config.json").write_text(
        json.dumps({"feature_extractor": stated})
    )
    config = stated_in(tmp_path)
    extract = Gemma4AudioFeatureExtractor(**stated)
    expected = extract([recording(4001)], return_tensors="np")["input_features"][0]
    assert difference(log_mel(recording(4001), config)[0], expected) <= 1e-5


@pytest.mark.reference
def test_what_the_reference_saves_is_read_back(tmp_path):
    from transformers import Gemma4AudioFeatureExtractor

    extract = Gemma4AudioFeatureExtractor(mel_floor=0.01, fft_overdrive=True)
    saved = {"feature_extractor": extract.to_dict(), "audio_seq_length": 188}
    saved = json.dumps(saved, default=lambda x: x.tolist())
    (tmp_path / "processor_config.json").write_text(saved)
    config = stated_in(tmp_path)
    assert (config.mel_floor, config.fft_length) == (0.01, 1024)
    assert config.max_samples == 188 * 640


@pytest.mark.reference
def test_placeholders_are_the_references_for_all_lengths():
    from transformers import Gemma4AudioFeatureExtractor, Gemma4Processor

    extract = Gemma4AudioFeatureExtractor()
    reference: Any = SimpleNamespace(
        feature_extractor=extract,
        audio_seq_length=750,
        audio_token="a",
        boa_token="<",
        eoa_token=">",
    )
    count = Gemma4Processor._compute_audio_num_tokens
    for length in (*range(1, 3000), *range(3000, 480_001, 331), 479_999, 480_000):
        sound = np.broadcast_to(np.float32(0), length)
        assert count(reference, sound, RATE) == soft_tokens(length)
    # What it really puts into the prompt, from the mask of the real frames.
    replace = Gemma4Processor.replace_audio_token
    for length in (*range(150, 170), *range(1430, 1450), *range(16_095, 16_105)):
        result = extract([np.zeros(length, np.float32)], return_tensors="np")
        text = replace(reference, dict(result), 0)
        assert text.count("a") == soft_tokens(length)


def test_mask_and_count_agree():
    for length in (161, 800, 801, 1440, 1441, 12_345):
        mask = np.array(log_mel(recording(length), CONFIG)[1])
        assert mask.sum() == valid_frames(length, CONFIG)
        assert mask[::2][::2].sum() == soft_tokens(length)


def test_a_frame_that_reaches_past_the_sound_is_masked_and_zero():
    features, mask = log_mel(recording(1440), CONFIG)
    rows = np.array(features)
    assert not np.array(mask)[-1] and not rows[-1].any()
    assert rows[:-1].any(axis=1).all()


def test_silence_after_the_sound_changes_no_frame():
    sound = recording(4000)
    alone, mask = log_mel(sound, CONFIG)
    longer, _ = log_mel(np.append(sound, np.zeros(3000, np.float32)), CONFIG)
    frames = int(np.array(mask).sum())
    assert mx.array_equal(alone[:frames], longer[:frames])


def test_a_tone_is_loudest_in_its_own_bin():
    tone = np.sin(2 * np.pi * 1000 / RATE * np.arange(RATE)).astype(np.float32)
    features, _ = log_mel(mx.array(tone), CONFIG)
    # 1000 Hz is 1000 mel; 8000 Hz is 2840 mel, shared by 129 steps.
    assert int(mx.argmax(features[50])) == pytest.approx(1000 / 2840 * 129 - 1, abs=1)


def test_neighbouring_filters_share_every_frequency():
    filters = mel_filters(AudioFeatureConfig(feature_size=40))
    centres = filters.argmax(axis=0)
    inner = filters[centres[0] + 1 : centres[-1]].sum(axis=1)
    assert inner == pytest.approx(np.ones(len(inner)))


def test_nothing_is_cut_off():
    with pytest.raises(MediaError, match=r"lasts 30\.0 s .*`gemma4 transcribe`"):
        log_mel(np.zeros(480_001, np.float32), CONFIG)
    features, mask = log_mel(np.zeros(480_000, np.float32), CONFIG)
    assert soft_tokens(480_000) == 750
    assert len(features) == np.array(mask).sum() == 2999


@pytest.mark.parametrize("length", [0, 1, 160])
def test_too_short_to_hear(length):
    assert soft_tokens(length) == 0
    with pytest.raises(MediaError, match="at least 161"):
        log_mel(np.zeros(length, np.float32), CONFIG)


def test_one_channel_only():
    with pytest.raises(MediaError, match="one channel"):
        log_mel(np.zeros((1000, 2), np.float32), CONFIG)


def test_without_a_file_the_published_constants_hold(tmp_path):
    assert stated_in(tmp_path) == AudioFeatureConfig()
    (tmp_path / "processor_config.json").write_text('{"image_processor": {}}')
    assert stated_in(tmp_path) == AudioFeatureConfig()


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ({"feature_extractor": []}, None),
        ({"feature_extractor": [1]}, "not an object"),
        ({"feature_extractor": {"hop_length": 0}}, "hop_length is 0"),
        ({"feature_extractor": {"hop_length": "10"}}, "hop_length is '10'"),
        ({"feature_extractor": {"fft_length": 256}}, "fft_length is 256, but"),
        ({"feature_extractor": {"mel_floor": 0}}, "mel_floor is 0"),
        ({"feature_extractor": {"mel_floor": "a"}}, "mel_floor is 'a'"),
        ({"feature_extractor": {"min_frequency": 9000}}, "not a range"),
        ({"feature_extractor": {"per_bin_mean": [1.0]}}, "1 values for 128"),
        ({"feature_extractor": {"dither": 0.001}}, "dither"),
        ({"feature_extractor": {"feature_extractor_type": "Other"}}, "Other"),
        ({"audio_seq_length": -1}, "audio_seq_length is -1"),
    ],
)
def test_senseless_constants_are_refused(tmp_path, stated, told):
    (tmp_path / "processor_config.json").write_text(json.dumps(stated))
    if told is None:
        assert stated_in(tmp_path) == AudioFeatureConfig()
        return
    with pytest.raises(CheckpointError, match=told):
        stated_in(tmp_path)


def test_unknown_constants_are_named(tmp_path):
    text = '{"feature_extractor": {"spectral_tilt": 3}}'
    (tmp_path / "processor_config.json").write_text(text)
    with pytest.warns(UserWarning, match="feature_extractor.spectral_tilt, which"):
        stated_in(tmp_path)


def test_without_a_tower_samples_are_heard_as_they_are() -> None:
    config = AudioSampleConfig(audio_samples_per_token=4)
    samples = np.arange(1, 10, dtype=np.float32) / 10
    features, mask = features_of(samples, config)
    assert features.tolist() == [
        pytest.approx([0.1, 0.2, 0.3, 0.4]),
        pytest.approx([0.5, 0.6, 0.7, 0.8]),
        pytest.approx([0.9, 0, 0, 0]),
    ]
    assert mask.tolist() == [True] * 3 and config.soft_tokens(9) == 3
    assert len(features_of(np.zeros(16_000 * 60), AudioSampleConfig())[0]) == 1500
    with pytest.raises(MediaError, match="nothing to hear"):
        features_of(np.zeros(0), config)
