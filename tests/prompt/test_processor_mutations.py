"""processor_config.json changed in hundreds of ways: refused by key, said, or as the
reference.

A changed file may do one of three things: give the pixels, features and counts of the
reference's processors for the same file, or be refused with the key in the error, or,
where nobody knows the key, be told in a warning. What is null counts as an absent key.
"""

import copy
import json
import random
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import real
from PIL import Image
from sounds import recording

from mlx_gemma4.audio.features import log_mel
from mlx_gemma4.audio.framing import AudioFeatureConfig
from mlx_gemma4.config import Config, ConfigWarning
from mlx_gemma4.errors import CheckpointError, MediaError
from mlx_gemma4.media import Picture
from mlx_gemma4.prompt.settings import MediaSettings
from mlx_gemma4.vision.images import image_patches
from mlx_gemma4.vision.pixels import PixelConfig

pytestmark = [pytest.mark.reference, pytest.mark.slow]

SEED, COUNT = 6, 200
E2B = Config.from_dict(real.read("E2B"))
BASE = real.read("E2B", "processor_config.json")
SECTIONS = ("image_processor", "video_processor", "feature_extractor")
# Google's file does not state these.
MORE: dict[str, dict[str, Any]] = {
    "image_processor": {"size": None, "do_center_crop": None, "new_trick": None},
    "video_processor": {"fps": None, "do_pad": None, "new_trick": None},
    "feature_extractor": {"frame_length_ms": 20.0, "hop_length_ms": 10.0},
}
for section in SECTIONS:
    BASE[section] |= MORE[section]
WRONG: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, 3, -1, 0.5, 1e-3, "x", [], {}, [1], {"a": 1}),
    *(float("nan"), float("inf"), 10**40, [0.5, 0.25, 2.0], [0.5, "x", 1], 126),
    *([0.5] * 128, [1.0] * 127 + [0]),
)
PICTURE = Image.fromarray(
    np.random.RandomState(SEED).randint(0, 256, (90, 130, 3)).astype(np.uint8)
)
SOUND = recording(4001)


def places() -> list[tuple[str, ...]]:
    top = [(key,) for key in BASE if key not in SECTIONS]
    nested = [(section, key) for section in SECTIONS for key in BASE[section]]
    return [*top, ("new_trick",), *nested]


def mutations() -> list[tuple[tuple[str, ...], Any]]:
    draw = random.Random(SEED)
    found = []
    for _ in range(COUNT):
        path = draw.choice(places())
        value: Any = BASE
        for step in path:
            value = value.get(step)
        close = [value * 2, value + 2] if type(value) in (int, float) else []
        close += [value / 2] if type(value) is float else []
        found.append((path, draw.choice([*WRONG, *close, *close])))
    return found


# Settings that only work together.
TOGETHER = [
    {"image_processor": {"do_normalize": True, "image_mean": [0.48, 0.46, 0.41]}},
    {
        "image_processor": {
            **{"do_normalize": True, "do_rescale": False, "resample": 0},
            **{"image_mean": [120.0, 110.0, 100.0], "image_std": [60.0, 55.0, 50.0]},
        }
    },
    {"image_processor": {"do_normalize": True, "image_mean": 0.5, "image_std": 0.5}},
    {"video_processor": {"do_rescale": False, "do_normalize": False, "image_std": 2}},
    {"video_processor": {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.4, 0.2]}},
    {
        "feature_extractor": {
            **{"sampling_rate": 8000, "frame_length": 160, "hop_length": 80},
            **{"fft_length": 256, "max_frequency": 4000.0},
        }
    },
    {
        "feature_extractor": {
            **{"frame_length_ms": 32.0, "frame_length": 512, "hop_length_ms": 8.0},
            **{"hop_length": 128, "preemphasis": 0.97, "input_scale_factor": 0.5},
        }
    },
    {"feature_extractor": {"fft_overdrive": True, "fft_length": 1024}},
    {"feature_extractor": {"preemphasis": 0.9, "preemphasis_htk_flavor": False}},
]


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    stated = copy.deepcopy(BASE)
    section = stated if len(path) == 1 else stated[path[0]]
    section[path[-1]] = value
    return stated


@pytest.fixture(autouse=True)
def silent_reference() -> Any:
    from transformers.utils import logging

    logging.set_verbosity_error()


def compare_pictures(
    stated: dict[str, Any], kind: str, budget: int, pixels: PixelConfig
) -> None:
    from transformers.models.gemma4.image_processing_pil_gemma4 import (
        Gemma4ImageProcessorPil,
    )

    # Its own video processor needs torchvision, and has these defaults.
    usual = {"max_soft_tokens": 70, "do_normalize": True} if kind == "video" else {}
    section = {k: v for k, v in stated[f"{kind}_processor"].items() if v is not None}
    out: Any = Gemma4ImageProcessorPil(**{**usual, **section})([PICTURE])
    ours, positions = image_patches(PICTURE, budget, config=pixels)
    count = len(ours)
    scale = max(1.0, float(np.abs(out["pixel_values"][0]).max()))
    np.testing.assert_allclose(
        np.array(ours) / scale, out["pixel_values"][0][:count] / scale, atol=1e-6
    )
    np.testing.assert_array_equal(positions, out["image_position_ids"][0][:count])
    assert (out["image_position_ids"][0][count:] == -1).all()
    picture = Picture(ours, positions)
    assert picture.soft_tokens(3) == out["num_soft_tokens_per_image"][0]


def compare_sounds(stated: dict[str, Any], settings: MediaSettings) -> None:
    from transformers import Gemma4AudioFeatureExtractor, Gemma4Processor

    section = {k: v for k, v in stated["feature_extractor"].items() if v is not None}
    out = Gemma4AudioFeatureExtractor(**section)([SOUND], return_tensors="np")
    assert isinstance(settings.audio, AudioFeatureConfig)
    features, mask = log_mel(SOUND, settings.audio)
    np.testing.assert_array_equal(mask, out["input_features_mask"][0])
    scale = max(1.0, float(np.abs(out["input_features"]).max()))
    difference = np.array(features) - out["input_features"][0]
    assert np.abs(difference).max() <= 1e-5 * scale
    names: Any = SimpleNamespace(audio_token="a", boa_token="", eoa_token="")
    text = Gemma4Processor.replace_audio_token(names, dict(out), 0)
    assert settings.audio.soft_tokens(len(SOUND)) == len(text)


def compare(stated: dict[str, Any], settings: MediaSettings) -> None:
    compare_pictures(stated, "image", settings.image_tokens, settings.image_pixels)
    compare_pictures(stated, "video", settings.frame_tokens, settings.frame_pixels)
    compare_sounds(stated, settings)
    frames = stated["video_processor"]["num_frames"]
    assert settings.frames == (32 if frames is None else frames)


@pytest.mark.parametrize("values", TOGETHER, ids=str)
def test_settings_that_go_together(values: dict[str, Any], tmp_path: Path) -> None:
    stated = copy.deepcopy(BASE)
    for section in values:
        stated[section] |= values[section]
        for name in ("frame_length_ms", "hop_length_ms"):  # unless it is about them
            if name not in values[section]:
                stated[section].pop(name, None)
    path = tmp_path / "processor_config.json"
    path.write_text(json.dumps(stated))
    settings = MediaSettings.from_file(path, E2B)
    assert settings != MediaSettings()
    compare(stated, settings)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param(*each, id=f"{i}-{'.'.join(each[0])}")
        for i, each in enumerate(mutations())
    ],
)
def test_a_changed_file(path: tuple[str, ...], value: Any, tmp_path: Path) -> None:
    stated, file = changed(path, value), tmp_path / "processor_config.json"
    file.write_text(json.dumps(stated))
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", ConfigWarning)
            settings = MediaSettings.from_file(file, E2B)
    except CheckpointError as error:
        # Of two that contradict one another, the one in milliseconds decides.
        assert path[-1].removesuffix("_ms") in str(error)
        return
    if said:
        (line,) = [str(each.message) for each in said]
        assert f" states {'.'.join(path)}, " in line
        assert settings == MediaSettings()
        return
    lists = path[-1].startswith(("per_bin", "image_mean", "image_std"))
    # Empty, or of no effect, and yet read by the reference.
    size = path[-1] == "size" and type(value) is not int
    if value in ("", [], {}) or (value is False and lists) or size:
        stated = changed(path, None)
    try:
        compare(stated, settings)
    except MediaError as error:  # a limit that this recording exceeds
        assert path[-1] in str(error)
