"""What a checkpoint's processor_config.json says about media.

Every key is obeyed as the reference obeys it, or known to change nothing, or refused
by name; what is left is told to the user in one line.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

from ..audio.framing import AudioFeatureConfig, AudioSampleConfig
from ..config import AudioConfig, AudioEmbedderConfig, Config, ConfigWarning
from ..reading.json_file import read_json
from ..reading.neutral import not_obeyed
from ..reading.section import Section
from ..vision.pixels import PixelConfig

IMAGE_TOKENS = (70, 140, 280, 560, 1120)  # budgets the vision tower was trained for
BUDGETS = f"{', '.join(map(str, IMAGE_TOKENS[:-1]))} or {IMAGE_TOKENS[-1]}"
TRAINED = (16, 3)  # patch size and pooling of that tower
# Where the reference looks for a section that processor_config.json does not have.
IMAGE_FILES = ("preprocessor_config.json",)
VIDEO_FILES = ("video_preprocessor_config.json", *IMAGE_FILES)
SECTIONS = ("image_processor", "video_processor", "feature_extractor")
# At the top, and used by nobody: placeholders are counted from the media themselves.
UNUSED = ("auto_map", "image_seq_length", "audio_ms_per_token", "audio_processor")


@dataclass(frozen=True)
class MediaSettings:
    """How pictures, videos and sound are prepared."""

    image_tokens: int = 280
    frame_tokens: int = 70
    frames: int = 32
    image_pixels: PixelConfig = PixelConfig()
    frame_pixels: PixelConfig = PixelConfig()
    audio: AudioFeatureConfig | AudioSampleConfig = AudioFeatureConfig()

    @classmethod
    def from_file(cls, path: Path, config: Config | None = None) -> "MediaSettings":
        """What a processor_config.json states; defaults for the rest, or without one.

        config: of the model, which it has to fit; what concerns a tower that the model
            lacks is not read.
        Raises CheckpointError for values that make no sense or are not supported;
        warns with ConfigWarning of keys that are not known.
        """
        files = _Files(path)
        settings = _settings(files, config)
        for file, keys in files.unknown().items():
            warnings.warn(not_obeyed(file, keys), ConfigWarning, stacklevel=3)
        return settings


class _Files:
    """The sections of a processor_config.json, and of the older files beside it."""

    def __init__(self, path: Path):
        self.top = Section(path, "", read_json(path))
        self._opened = [self.top]

    def section(self, *names: str, elsewhere: tuple[str, ...]) -> Section:
        """The first of `names` that is stated, else a whole file, else nothing."""
        for name in names:
            if (values := self.top.get(name)) is not None:
                return self._open(self.top.path, name, values)
        for file in elsewhere:
            path = self.top.path.with_name(file)
            for section in self._opened:
                if section.path == path:
                    return section
            if path.exists() or path.is_symlink():
                section = self._open(path, "", read_json(path))
                section.pass_over(*_known())  # of all media: they share such a file
                return section
        return self._open(self.top.path, names[0], {})

    def unknown(self) -> dict[Path, list[str]]:
        """By file, what states something that nobody asked for."""
        found: dict[Path, list[str]] = {}
        for section in self._opened:
            if keys := section.unknown():
                found.setdefault(section.path, []).extend(keys)
        return found

    def _open(self, path: Path, name: str, values: object) -> Section:
        section = Section(path, name, values)
        self._opened.append(section)
        return section


def _settings(files: _Files, config: Config | None) -> MediaSettings:
    top, settings = files.top, MediaSettings()
    top.pass_over(*UNUSED, *SECTIONS)
    if top.values.get("processor_class") == _name("", config):
        top.pass_over("processor_class")
    image = (settings.image_tokens, settings.image_pixels)
    video = (settings.frame_tokens, settings.frame_pixels)
    frames, audio = settings.frames, settings.audio
    if config is None or config.vision_config:
        section = files.section("image_processor", elsewhere=IMAGE_FILES)
        image = _pictures(section, "Image", settings.image_tokens, config)
        section = files.section("video_processor", elsewhere=VIDEO_FILES)
        video = _pictures(section, "Video", settings.frame_tokens, config)
        frames = _frames(section, settings.frames)
    length = top.whole("audio_seq_length", audio.audio_seq_length)
    if config is None or config.audio_config:
        names = ("feature_extractor", "audio_processor")
        section = files.section(*names, elsewhere=IMAGE_FILES)
        audio = _sound(section, length, config)
    return MediaSettings(image[0], video[0], frames, image[1], video[1], audio)


def _name(kind: str, config: Config | None) -> str:
    """What the reference calls the processor of a kind of media, or of all."""
    family = "Gemma4" if config is None or config.has_towers else "Gemma4Unified"
    return f"{family}{kind}Processor"


def _pictures(
    section: Section, kind: str, usual: int, config: Config | None
) -> tuple[int, PixelConfig]:
    """The budget of soft tokens, and what becomes of pixels."""
    name, vision = _name(kind, config), config and config.vision_config
    told = f", not {name!r}"
    names = (name, f"{name}Fast", f"{name}Pil")
    section.must_be(f"{kind.lower()}_processor_type", *names, otherwise=told)
    tokens = section.whole("max_soft_tokens", usual)
    sizes = (
        TRAINED if vision is None else (vision.patch_size, vision.pooling_kernel_size)
    )
    for key, size in zip(("patch_size", "pooling_kernel_size"), sizes, strict=True):
        if section.whole(key, size) != size:
            section.refuse(key, f", but the model takes {size}")
    if config and not config.has_towers:  # stated by mlx-vlm
        side = sizes[0] * sizes[1]
        told = f", but the model takes {side}"
        section.must_be("model_patch_size", side, otherwise=told)
    if vision and sizes == TRAINED and tokens not in IMAGE_TOKENS:
        section.refuse("max_soft_tokens", f"; it can be {BUDGETS}")
    return tokens, PixelConfig.from_section(section, normalized=kind == "Video")


def _frames(section: Section, usual: int) -> int:
    if not section.flag("do_sample_frames", True):
        section.refuse("do_sample_frames", ": whole videos are not supported")
    # The reference takes the one or the other, and has a default for the number.
    if section.number("fps", 0, least=0):
        section.refuse("fps", ": state num_frames, which is obeyed, in its place")
    return section.whole("num_frames", usual)


def _known() -> set[str]:
    """Every name that a section of any medium may have."""
    blank = Section(Path(), "", {})
    for kind in ("Image", "Video"):
        _pictures(blank, kind, 1, None)
    _frames(blank, 1)
    AudioFeatureConfig.from_section(blank)
    AudioSampleConfig.from_section(blank)
    return blank.taken


def _sound(
    section: Section, length: int, config: Config | None
) -> AudioFeatureConfig | AudioSampleConfig:
    hears = config and config.audio_config
    if isinstance(hears, AudioEmbedderConfig):
        size = hears.audio_embed_dim
        samples = AudioSampleConfig.from_section(section, length, size)
        if samples.audio_samples_per_token != size:
            told = f", but the model takes {size}"
            section.refuse("audio_samples_per_token", told)
        return samples
    audio = AudioFeatureConfig.from_section(section, length)
    if hears:
        _check_bins(section, audio.feature_size, hears)
    return audio


def _check_bins(section: Section, bins: int, tower: AudioConfig) -> None:
    """Two convolutions of stride 2 leave a quarter of the bins, rounded up."""
    taken = tower.subsampling_conv_channels[0]
    if -(-bins // 4) != taken // 4:
        section.refuse("feature_size", f", but the model's audio tower takes {taken}")
