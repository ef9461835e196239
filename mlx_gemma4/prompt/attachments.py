"""The media parts of messages: read, and written out as placeholders in the prompt.

The chat template leaves one mark per medium. Here each mark becomes what the model
reads: begin and end tokens round as many placeholders as the medium has soft tokens.
The readers are imported where a medium needs them: text alone must start quickly.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..audio.framing import FILE, AudioFeatureConfig
from ..config import Config, VisionConfig
from ..errors import ChatError, CheckpointError, MediaError
from .media import Media, Medium, soft_tokens

MARKS = {"image": "<|image|>", "audio": "<|audio|>", "video": "<|video|>"}
KINDS = {
    **{"image": "image", "image_url": "image"},
    **{"audio": "audio", "input_audio": "audio", "video": "video"},
}
IMAGE_TOKENS = (70, 140, 280, 560, 1120)  # budgets the vision tower was trained for
BUDGETS = f"{', '.join(map(str, IMAGE_TOKENS[:-1]))} or {IMAGE_TOKENS[-1]}"


@dataclass(frozen=True)
class MediaSettings:
    """What a checkpoint's processor_config.json says about media."""

    image_tokens: int = 280
    frame_tokens: int = 70
    frames: int = 32
    audio: AudioFeatureConfig = AudioFeatureConfig()


@dataclass(frozen=True, eq=False)
class Prepared:
    """A medium made ready once, to stand in the prompts of many turns.

    It takes the place of a path in a message. `media` holds it alone, `text` is what it
    becomes in a prompt.
    """

    kind: str
    media: Media
    text: str


class Attachments:
    """Collects the media of a conversation and the text each stands for."""

    def __init__(
        self,
        config: Config,
        settings: MediaSettings,
        spell: Callable[[int], str],
        image_tokens: int | None,
    ):
        if image_tokens is not None and image_tokens not in IMAGE_TOKENS:
            raise MediaError(f"image_tokens is {image_tokens}; it can be {BUDGETS}.")
        self.config, self.spell = config, spell
        self.settings = settings
        if image_tokens is not None:
            self.settings = replace(settings, image_tokens=image_tokens)
        self.media = Media()
        self.soft_tokens = 0
        self.texts: list[tuple[str, str]] = []  # mark, what it becomes

    def read(self, messages: Sequence[Mapping[str, Any]]) -> "Attachments":
        """Read every media part. Raises MediaError that names the message."""
        readers = {"image": self._image, "audio": self._audio, "video": self._video}
        for number, kind, part in _media_parts(messages):
            source = part.get(kind, part.get("path"))
            if source is None:
                raise MediaError(
                    f"messages[{number}]: a part of type {part['type']!r} needs "
                    f"{kind!r} or 'path'."
                )
            if isinstance(source, Prepared):
                text = self._prepared(source, kind, number)
            else:
                text = readers[kind](source, part)
            self.texts.append((MARKS[kind], text))
        return self

    def write_into(self, text: str) -> str:
        """`text` with every mark written out, in order."""
        marks = "|".join(map(re.escape, MARKS.values()))
        found = re.findall(marks, text)
        if found != [mark for mark, _ in self.texts]:
            raise ChatError(
                f"The prompt has {len(found)} marks of media, but the messages hold "
                f"{len(self.texts)} media; a mark like {MARKS['image']} cannot be part "
                "of a text."
            )
        replacements = iter([text for _, text in self.texts])
        return re.sub(marks, lambda _: next(replacements), text)

    def _prepared(self, medium: Prepared, kind: str, number: int) -> str:
        if medium.kind != kind:
            raise MediaError(
                f"messages[{number}]: a part of type {kind!r} holds a prepared "
                f"{medium.kind}."
            )
        self.media.images.extend(medium.media.images)
        self.media.frames.extend(medium.media.frames)
        self.media.audio.extend(medium.media.audio)
        return medium.text

    def _image(self, source: Any, part: Mapping[str, Any]) -> str:
        from ..vision.images import open_image

        self._vision()
        medium = self._patches(open_image(source), self.settings.image_tokens)
        self.media.images.append(medium)
        return self._block("image_token_id", "boi_token_id", "eoi_token_id", medium)

    def _video(self, source: Any, part: Mapping[str, Any]) -> str:
        from ..vision.video import timestamp, video_frames

        self._vision()
        frames = part.get("num_frames", self.settings.frames)
        blocks = []
        for picture, seconds in video_frames(source, frames, part.get("fps")):
            medium = self._patches(picture, self.settings.frame_tokens)
            self.media.frames.append(medium)
            block = self._block(
                "video_token_id", "boi_token_id", "eoi_token_id", medium
            )
            blocks.append(f"{timestamp(seconds)} {block}")
        return " ".join(blocks)

    def _audio(self, source: Any, part: Mapping[str, Any]) -> str:
        from ..audio.features import log_mel
        from ..audio.files import read_audio

        if self.config.audio_config is None:
            raise MediaError("This model has no audio tower and cannot hear.")
        settings = self.settings.audio
        medium = log_mel(read_audio(source, settings.sampling_rate), settings)
        self.media.audio.append(medium)
        return self._block("audio_token_id", "boa_token_id", "eoa_token_id", medium)

    def _vision(self) -> VisionConfig:
        if self.config.vision_config is None:
            raise MediaError("This model has no vision tower and cannot see pictures.")
        return self.config.vision_config

    def _patches(self, picture: Any, budget: int) -> Medium:
        from ..vision.images import image_patches

        vision = self._vision()
        pixels, positions = image_patches(
            picture, budget, vision.patch_size, vision.pooling_kernel_size
        )
        furthest: Any = positions.max().item()
        if furthest >= vision.position_embedding_size:
            raise MediaError(
                f"At {budget} soft tokens this picture is {furthest + 1} patches long; "
                f"the model has places for {vision.position_embedding_size}. Use a "
                "smaller image_tokens."
            )
        return pixels, positions

    def _block(self, token: str, begin: str, end: str, medium: Medium) -> str:
        ids = [getattr(self.config, key) for key in (begin, token, end)]
        if None in ids:
            raise MediaError(f"config.json states no {token}: media cannot be written.")
        vision, sound = self.config.vision_config, token == "audio_token_id"
        pooling = None if sound or vision is None else vision.pooling_kernel_size
        count = soft_tokens(medium, pooling)
        self.soft_tokens += count
        context = self.config.text_config.max_position_embeddings
        if self.soft_tokens > context:  # before hours of video fill the memory
            raise MediaError(
                f"The media take more than the {context} tokens this model reads. Use "
                "fewer, a smaller image_tokens, or fewer frames of a video."
            )
        opening, placeholder, closing = map(self.spell, ids)
        return f"{opening}{placeholder * count}{closing}"


def _media_parts(
    messages: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """Number of the message, kind and part of every medium, in order."""
    for number, message in enumerate(messages):
        content = message.get("content") or ()
        for part in () if isinstance(content, str) else content:
            stated = part.get("type") if isinstance(part, Mapping) else None
            kind = KINDS.get(str(stated))
            if kind is not None:
                yield number, kind, part


def settings_from(folder: Path, stated: Mapping[str, Any]) -> MediaSettings:
    """The settings in processor_config.json, `stated`, of a checkpoint's folder.

    Raises CheckpointError for values that make no sense.
    """
    counts = {
        "image_tokens": ("image_processor", "max_soft_tokens"),
        "frame_tokens": ("video_processor", "max_soft_tokens"),
        "frames": ("video_processor", "num_frames"),
    }
    values: dict[str, int] = {}
    for name, (section, key) in counts.items():
        part = stated.get(section) or {}
        value = part.get(key) if isinstance(part, Mapping) else part
        if value is None:
            continue
        if type(value) is not int or value < 1:
            raise CheckpointError(
                f"{folder / FILE}: {section}.{key} is {value!r}, not a positive whole "
                "number."
            )
        values[name] = value
    return MediaSettings(**values, audio=AudioFeatureConfig.from_folder(folder))
