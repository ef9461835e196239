"""processor_config.json by what its values do: obeyed, neutral, said, or refused."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import real
from PIL import Image
from places import REAL
from tiny_tokenizer import write_json

from mlx_gemma4.audio.framing import AudioSampleConfig
from mlx_gemma4.config import Config, ConfigWarning
from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.prompt.settings import MediaSettings
from mlx_gemma4.vision.images import image_patches
from mlx_gemma4.vision.pixels import PixelConfig

E2B = Config.from_dict(real.read("E2B"))
GOOGLE = real.read("E2B", "processor_config.json")
UNIFIED = REAL / "google" / "gemma-4-12B-it-qat-w4a16-ct"
FILES = [
    file
    for file in sorted(REAL.rglob("processor_config.json"))
    if file.parent != UNIFIED
]


def settings(folder: Path, stated: Any, config: Config | None = E2B) -> MediaSettings:
    write_json(folder / "processor_config.json", stated)
    return MediaSettings.from_file(folder / "processor_config.json", config)


def changed(section: str, **values: Any) -> dict[str, Any]:
    stated = copy.deepcopy(GOOGLE)
    (stated[section] if section else stated).update(values)
    return stated


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_real_files_state_the_defaults(file: Path) -> None:
    """Warnings are errors in these tests."""
    assert MediaSettings.from_file(file, E2B) == MediaSettings()


def test_a_real_file_of_a_model_without_towers() -> None:
    file, config = (
        UNIFIED / "processor_config.json",
        Config.from_file(UNIFIED / "config.json"),
    )
    found = MediaSettings.from_file(file, config)
    assert found == MediaSettings(audio=AudioSampleConfig())
    with pytest.raises(CheckpointError, match="not 'Gemma4ImageProcessor'"):
        MediaSettings.from_file(file, E2B)
    towers = REAL / "google" / "gemma-4-E2B-it" / "processor_config.json"
    with pytest.raises(CheckpointError, match="not 'Gemma4UnifiedImageProcessor'"):
        MediaSettings.from_file(towers, config)


def test_an_mlx_conversion_of_a_model_without_towers(tmp_path: Path) -> None:
    """As mlx-vlm writes it: the side of a square, and frames that there are not."""
    config = Config.from_file(UNIFIED / "config.json")
    image = real.read("google/gemma-4-12B-it-qat-w4a16-ct", "processor_config.json")
    image = image["image_processor"] | {"model_patch_size": 48}
    image |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    image |= {"size": {"height": 224, "width": 224}}
    extractor = "Gemma4UnifiedAudioFeatureExtractor"
    heard = {"feature_extractor_type": extractor, "sampling_rate": 16_000}
    heard |= {"num_mel_filters": 128, "fft_length": 512, "hop_length": 160}
    heard |= {"chunk_duration": 8.0, "overlap_duration": 1.0}
    stated = {"processor_class": "Gemma4UnifiedProcessor", "audio_ms_per_token": 40}
    stated |= {"image_processor": image, "feature_extractor": heard}
    found = settings(tmp_path, stated, config)
    assert found == MediaSettings(audio=AudioSampleConfig())
    image["model_patch_size"] = 16
    with pytest.raises(CheckpointError, match="model_patch_size.* takes 48"):
        settings(tmp_path, stated, config)


NO_EFFECT: list[tuple[str, dict[str, Any]]] = [
    ("", {"image_seq_length": 3, "audio_ms_per_token": 7, "auto_map": {"a": "b"}}),
    ("", {"processor_class": None, "invented": []}),
    ("image_processor", {"size": {"height": 224, "width": 224}, "image_seq_length": 9}),
    ("image_processor", {"do_normalize": None, "resample": None, "do_pad": False}),
    ("image_processor", {"image_mean": [0.5] * 3, "image_std": 0.5}),  # do_normalize
    ("image_processor", {"image_processor_type": "Gemma4ImageProcessorFast"}),
    ("video_processor", {"return_metadata": True, "fps": None, "crop_size": 3}),
    ("feature_extractor", {"padding_value": 2.0, "return_attention_mask": False}),
    ("feature_extractor", {"frame_length_ms": 20, "hop_length_ms": 10.0}),
    ("feature_extractor", {"chunk_duration": 8.0, "num_mel_filters": 128}),
    ("feature_extractor", {"per_bin_mean": [], "per_bin_stddev": False}),
]


@pytest.mark.parametrize(("section", "values"), NO_EFFECT, ids=str)
def test_what_changes_nothing_is_passed_over(
    tmp_path: Path, section: str, values: dict[str, Any]
) -> None:
    assert settings(tmp_path, changed(section, **values)) == MediaSettings()


def test_pixels_are_as_stated(tmp_path: Path) -> None:
    values = {"do_normalize": True, "image_mean": 0.5, "image_std": [0.5, 0.25, 2]}
    stated = changed("image_processor", **values, resample=2)
    found = settings(tmp_path, stated)
    half = PixelConfig(2, 1 / 255, (0.5, 0.5, 0.5), (0.5, 0.25, 2))
    assert (found.image_pixels, found.frame_pixels) == (half, PixelConfig())
    # A video is normalised unless the file says that it is not.
    del stated["video_processor"]["do_normalize"]
    stated["video_processor"]["image_std"] = 4.0
    found = settings(tmp_path, stated)
    assert found.frame_pixels.image_std == (4.0, 4.0, 4.0)


def test_a_normalised_picture() -> None:
    image = Image.new("RGB", (48, 48), (51, 102, 204))
    config = PixelConfig(3, 1 / 255, (0.1, 0.4, 0.0), (0.5, 1.0, 0.25))
    pixels, _ = image_patches(image, 70, config=config)
    expected = np.tile([0.2, 0.0, 3.2], 256)
    np.testing.assert_allclose(np.array(pixels)[0], expected, atol=1e-6)
    pixels, _ = image_patches(image, 70, config=PixelConfig(rescale_factor=1.0))
    np.testing.assert_array_equal(np.array(pixels)[0], np.tile([51, 102, 204], 256))


REFUSED: list[tuple[str, str, Any]] = [
    *(("", "audio_seq_length", value) for value in (0, "x", 1.5, [])),
    ("", "image_processor", "x"),
    ("", "feature_extractor", [1]),
    *(("image_processor", "do_resize", value) for value in (False, 1, "x")),
    ("image_processor", "do_rescale", "true"),
    ("image_processor", "do_convert_rgb", False),
    ("image_processor", "image_processor_type", "Gemma3ImageProcessor"),
    *(("image_processor", "max_soft_tokens", value) for value in (0, 100, 2.5, True)),
    *(("image_processor", "patch_size", value) for value in (14, 16.0)),
    ("image_processor", "pooling_kernel_size", 4),
    *(("image_processor", "resample", value) for value in (-1, 6, True, "bicubic")),
    *(("image_processor", "rescale_factor", value) for value in (0, -1, "x", 1e400)),
    *(("image_processor", "image_mean", value) for value in ("x", [1], [0, 0, "x"])),
    *(("image_processor", "image_std", value) for value in (0, [1, 1, 0], [None] * 3)),
    ("video_processor", "do_sample_frames", False),
    ("video_processor", "fps", 2.0),
    *(("video_processor", "num_frames", value) for value in (0, 1.5, "x")),
    ("video_processor", "video_processor_type", "x"),
    ("feature_extractor", "feature_extractor_type", "x"),
    *(("feature_extractor", "feature_size", value) for value in (80, 0, 128.0)),
    ("feature_extractor", "num_mel_filters", 80),
    ("feature_extractor", "frame_length", 640),  # the reference goes by frame_length_ms
    ("feature_extractor", "frame_length_ms", 40.0),  # and frame_length says 320
    ("feature_extractor", "hop_length", 80),
    ("feature_extractor", "fft_length", 1024),
    ("feature_extractor", "dither", 1e-5),
    ("feature_extractor", "padding_side", "left"),
    ("feature_extractor", "padding_value", float("nan")),
    ("feature_extractor", "per_bin_mean", [0.0] * 127),
    ("feature_extractor", "per_bin_stddev", [1.0] * 127 + [0]),
    ("feature_extractor", "preemphasis", -0.5),
    ("feature_extractor", "preemphasis_htk_flavor", 1),
    ("feature_extractor", "sampling_rate", 1),
]


@pytest.mark.parametrize(
    ("section", "key", "value"), REFUSED, ids=lambda part: str(part)[:20]
)
def test_what_is_wrong_or_unsupported_is_refused(
    tmp_path: Path, section: str, key: str, value: Any
) -> None:
    named = f"{section}.{key}" if section else key
    # Either of two lengths that contradict one another may be the one that is named.
    with pytest.raises(CheckpointError, match=rf"\.json: {named.split('_ms')[0]}"):
        settings(tmp_path, changed(section, **{key: value}))


def test_unknown_keys_are_named_in_one_line(tmp_path: Path) -> None:
    stated = changed("image_processor", tiles=4, do_center_crop=True)
    stated["feature_extractor"]["spectral_tilt"] = 3
    stated |= {"speed": "high", "processor_class": "Gemma3Processor"}
    with pytest.warns(ConfigWarning) as said:
        assert settings(tmp_path, stated) == MediaSettings()
    (line,) = [str(each.message) for each in said]
    names = ("processor_class", "speed", "image_processor.do_center_crop")
    names += ("image_processor.tiles", "feature_extractor.spectral_tilt")
    assert f"states {', '.join(names)}, which" in line


def test_a_tower_that_is_not_there_needs_no_settings(tmp_path: Path) -> None:
    config = Config.from_dict(real.read("31B"))  # without ears
    stated = changed("feature_extractor", dither=1.0, invented=1)
    assert settings(tmp_path, stated, config) == MediaSettings()


def test_older_files_are_read_where_a_section_is_missing(tmp_path: Path) -> None:
    picture = {"max_soft_tokens": 560, "image_mean": [0, 0, 0], "feature_size": 128}
    write_json(tmp_path / "preprocessor_config.json", picture)
    # As the reference does: a picture's settings hold for videos, too.
    found = settings(tmp_path, {"processor_class": "Gemma4Processor"})
    assert (found.image_tokens, found.frame_tokens) == (560, 560)
    write_json(tmp_path / "video_preprocessor_config.json", {"num_frames": 4, "odd": 1})
    with pytest.warns(ConfigWarning, match=r"video_preprocessor_config\.json.* odd,"):
        found = settings(tmp_path, {"image_processor": {}})
    assert (found.image_tokens, found.frame_tokens, found.frames) == (280, 70, 4)
    # What has its section in processor_config.json is not looked for elsewhere.
    assert settings(tmp_path, GOOGLE) == MediaSettings()
