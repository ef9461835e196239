"""The media parts of messages: read, and written out as placeholders in the prompt.

The chat template leaves one mark per medium. Here each mark becomes what the model
reads: begin and end tokens round as many placeholders as the medium has soft tokens.
The readers are imported where a medium needs them: text alone must start quickly.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..chat.rendered import Rendered
from ..config import Config, Patches
from ..errors import ChatError, CheckpointError, MediaError
from ..media import Attached, Clip, Kind, Picture
from ..reading.sources import from_base64, is_data_url
from ..vision.pixels import PixelConfig
from .foretold import Foretold, foretell, name_of, named
from .settings import BUDGETS, IMAGE_TOKENS, MediaSettings

MARKS: dict[Kind, str] = {
    "image": "<|image|>",
    "audio": "<|audio|>",
    "video": "<|video|>",
}
# What stands in a prompt for a picture, a frame or a recording: begin, placeholder and
# end, by the keys that config.json has for their ids.
WRITTEN: dict[Kind, dict[str, str]] = {
    "image": {
        "boi_token_id": "<|image>",
        "image_token_id": MARKS["image"],
        "eoi_token_id": "<image|>",
    },
    "audio": {
        "boa_token_id": "<|audio>",
        "audio_token_id": MARKS["audio"],
        "eoa_token_id": "<audio|>",
    },
    "video": {
        "boi_token_id": "<|image>",
        "video_token_id": MARKS["video"],
        "eoi_token_id": "<image|>",
    },
}
# The names that chat templates know, two of them from OpenAI's requests.
KIND_OF_PART: dict[str, Kind] = {
    **{"image": "image", "image_url": "image"},
    **{"audio": "audio", "input_audio": "audio", "video": "video"},
}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A medium made ready once, to stand in the prompts of many turns.

    It takes the place of a path in a message. `text` is what it becomes in a prompt,
    `attached` what stands behind the placeholders there: one each, or all the frames
    of a video.
    """

    kind: Kind
    attached: tuple[Attached, ...]
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
        self.attached: list[Attached] = []
        self.texts: list[tuple[str, str]] = []  # mark, what it becomes

    def foretell(self, messages: Sequence[Mapping[str, Any]]) -> list[Foretold]:
        """What every media part will take, before any is decoded.

        Raises MediaError as `read`, where that can be told already.
        """
        found: list[Foretold] = []
        for number, message in enumerate(messages):
            for kind, part in media_parts(message):
                where = f"messages[{number}]"
                source = source_of(part, kind, where)
                if isinstance(source, Prepared):
                    blocks = [each.count for each in source.attached]
                    found.append(Foretold(kind, blocks, name_of(part, kind, where)))
                    continue
                told = foretell(kind, source, part, self.config, self.settings, where)
                found.append(told)
        self._check_context(sum(sum(each.blocks) for each in found), found)
        return found

    def read(
        self,
        messages: Sequence[Mapping[str, Any]],
        look: Callable[[], None] | None = None,
    ) -> "Attachments":
        """Read every media part. look: called before each, which may take long; what it
        raises ends the reading. Raises MediaError that names the message."""
        readers = {"image": self._image, "audio": self._audio, "video": self._video}
        for number, message in enumerate(messages):
            for kind, part in media_parts(message):
                source = source_of(part, kind, f"messages[{number}]")
                if look is not None:
                    look()
                if isinstance(source, Prepared):
                    text = self._prepared(source, kind, number)
                else:
                    text = readers[kind](source, part)
                self.texts.append((MARKS[kind], text))
        return self

    def write_into(self, rendered: Rendered) -> Rendered:
        """A prompt with every mark of the template's written out, in order."""
        marks = re.compile("|".join(map(re.escape, MARKS.values())))
        found = [mark for _, mark in rendered.find(marks)]
        if found != [mark for mark, _ in self.texts]:
            held = _counted([mark for mark, _ in self.texts])
            raise ChatError(
                f"The prompt has {_counted(found)}, but the messages hold {held}. "
                "Where control tokens are allowed, none of these may stand in a text; "
                "else the chat template does not write what the messages hold."
            )
        texts = iter([text for _, text in self.texts])
        return rendered.sub(marks, lambda: next(texts))

    def _prepared(self, medium: Prepared, kind: str, number: int) -> str:
        if medium.kind != kind:
            raise MediaError(
                f"messages[{number}]: a part of type {kind!r} holds a prepared "
                f"{medium.kind}."
            )
        self.attached += medium.attached
        return medium.text

    def _image(self, source: Any, part: Mapping[str, Any]) -> str:
        """One block for each page: as if they were so many parts."""
        from ..vision.pages import open_pages

        self._patches()
        settings = self.settings
        pages = open_pages(source)
        return "".join(
            self._picture("image", page, settings.image_tokens, settings.image_pixels)
            for page in pages
        )

    def _video(self, source: Any, part: Mapping[str, Any]) -> str:
        from ..vision.video import timestamp, video_frames

        self._patches()
        settings = self.settings
        frames = part.get("num_frames", settings.frames)
        blocks = []
        for picture, seconds in video_frames(source, frames, part.get("fps")):
            block = self._picture(
                "video", picture, settings.frame_tokens, settings.frame_pixels
            )
            blocks.append(f"{timestamp(seconds)} {block}")
        return " ".join(blocks)

    def _audio(self, source: Any, part: Mapping[str, Any]) -> str:
        from ..audio.features import features_of
        from ..audio.files import read_audio

        if self.config.audio_config is None:
            raise MediaError("This model cannot hear.")
        settings = self.settings.audio
        samples = read_audio(source, settings.sampling_rate, part.get("track"))
        clip = Clip(*features_of(samples, settings))
        return self._block("audio", clip, settings.soft_tokens(len(samples)))

    def _patches(self) -> Patches:
        if self.config.vision_config is None:
            raise MediaError("This model cannot see pictures.")
        return self.config.vision_config.patches

    def _picture(self, kind: Kind, image: Any, budget: int, pixels: PixelConfig) -> str:
        from ..vision.images import image_patches, target_size
        from ..vision.pages import warn_of_shrinking

        patches = self._patches()
        side, pooling = patches.side, patches.pooling
        if kind == "image":
            shown = target_size(image.height, image.width, budget, side, pooling)
            warn_of_shrinking(image, shown, largest=budget >= IMAGE_TOKENS[-1])
        picture = Picture(*image_patches(image, budget, side, pooling, pixels))
        furthest: Any = picture.positions.max().item()
        if furthest >= patches.places:
            raise MediaError(
                f"At {budget} soft tokens this picture is {furthest + 1} patches long; "
                f"the model has places for {patches.places}. Use a "
                "smaller image_tokens."
            )
        return self._block(kind, picture, picture.soft_tokens(pooling))

    def _block(self, kind: Kind, medium: Picture | Clip, count: int) -> str:
        """Attach a medium; the text of its placeholders, with their begin and end."""
        config = self.config
        opening, placeholder, closing = (
            self._mark(key, mark) for key, mark in WRITTEN[kind].items()
        )
        token = getattr(config, f"{kind}_token_id")
        self.attached.append(Attached(kind, medium, token, count))
        self._check_context(sum(a.count for a in self.attached))  # of hours of video
        return f"{opening}{placeholder * count}{closing}"

    def _check_context(self, tokens: int, media: Sequence[Foretold] = ()) -> None:
        context = self.config.text_config.max_position_embeddings
        if tokens > context:
            raise MediaError(
                f"The media take more than the {context:,} tokens this model reads"
                f"{named(media)}. Use fewer, a smaller --budget (image_tokens), or "
                "fewer frames of a video (--frames, num_frames)."
            )

    def _mark(self, key: str, mark: str) -> str:
        """`mark`, if its id in config.json is the tokenizer's."""
        stated = getattr(self.config, key)
        if stated is None:
            raise MediaError(f"config.json states no {key}: media cannot be written.")
        if (found := self.spell(stated)) != mark:
            raise CheckpointError(
                f"{key} in config.json is {stated}, which is {found!r} in "
                f"tokenizer.json and not {mark!r}: take both from one checkpoint."
            )
        return mark


def _counted(marks: Sequence[str]) -> str:
    """How often each mark is there."""
    counts = Counter(marks)
    return ", ".join(f"{n} {mark}" for mark, n in counts.items()) or "no medium"


def source_of(part: Mapping[str, Any], kind: Kind, where: str) -> Any:
    """What a part names its medium with: `{"image": …}`, `{"path": …}`,
    `{"image_url": {"url": …}}`, or `{"input_audio": {"data": base64, "format": …}}`.

    Raises MediaError that begins with `where` for a part that names none.
    """
    stated = str(part["type"])
    for key in (kind, "path", stated, "url"):
        source = part.get(key)
        if isinstance(source, Mapping):
            data = source.get("data")
            if isinstance(data, str) and not is_data_url(data):
                return from_base64(data, f"{where}: the {kind}")
            source = data or source.get("url")
        if source is not None:
            return source
    named = "".join(f"{key!r}, " for key in dict.fromkeys((kind, stated)))
    raise MediaError(
        f"{where}: a part of type {stated!r} needs {named[:-2]} or 'path'."
    )


def media_parts(message: Mapping[str, Any]) -> Iterator[tuple[Kind, Mapping[str, Any]]]:
    """Kind and part of every medium of a message, in order."""
    content = message.get("content")
    if isinstance(content, str) or not isinstance(content, Sequence):
        return
    for part in content:
        stated = part.get("type") if isinstance(part, Mapping) else None
        kind = KIND_OF_PART.get(str(stated))
        if kind is not None:
            yield kind, part
