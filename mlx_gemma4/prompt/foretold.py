"""How much of a context media take, by what their files say of themselves.

Nothing is decoded: a picture has its size in front, a recording or video its length.
What is found so is about right. Where a file does not say, or says something else than
it holds, decoding it tells.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..audio.framing import AudioFeatureConfig
from ..config import Config
from ..errors import MediaError
from ..media import Kind
from ..reading.home import with_home
from ..reading.listing import listed
from ..reading.sources import is_data_url, source_name
from .settings import MediaSettings

MARKS = 2  # tokens round each block of soft ones
TOO_LONG = 1.0  # seconds; a container may state a little more than there is to hear
NAMED = 3  # media that a message names, the largest first
LESS: dict[Kind, str] = {
    "image": "fewer pictures or a smaller --budget (image_tokens)",
    "video": "fewer frames of a video (--frames, num_frames)",
    "audio": "a shorter recording",
}


@dataclass(frozen=True)
class Foretold:
    """A medium of a prompt. name: for messages, "" where it has none. blocks: the soft
    tokens of each page, frame or recording; none where its file does not say."""

    kind: Kind
    blocks: Sequence[int]
    name: str = ""

    @property
    def tokens(self) -> int:
        return sum(self.blocks) + MARKS * len(self.blocks)


def named(media: Sequence[Foretold]) -> str:
    """What takes most of a prompt, to stand behind its number of tokens."""
    known = [each for each in media if each.name and each.tokens]
    known.sort(key=lambda each: each.tokens, reverse=True)
    told = [f"{each.name} takes about {each.tokens:,}" for each in known[:NAMED]]
    if rest := sum(each.tokens for each in known[NAMED:]):
        told.append(f"{len(known) - NAMED} more media {rest:,}")
    return f" ({listed(told)})" if told else ""


def less(media: Sequence[Foretold]) -> str:
    """What would make them take less, as a sentence."""
    kinds = {each.kind for each in media if each.tokens}
    ways = [way for kind, way in LESS.items() if kind in kinds]
    return f" Use {', or '.join(ways)}." if ways else ""


def foretell(
    kind: Kind,
    source: Any,
    part: Mapping[str, Any],
    config: Config,
    settings: MediaSettings,
    where: str,
) -> Foretold:
    """What the medium of a message's part will take. where: names one without a file.

    Raises MediaError where it is told to be longer than the model can hear.
    """
    name = name_of({"path": source, **part}, kind, where)
    if _is_pipe(source):  # it can be read only once
        return Foretold(kind, (), name)
    if kind == "audio":
        return Foretold(kind, _of_sound(source, part, config, settings, name), name)
    return Foretold(kind, _of_pictures(kind, source, part, config, settings), name)


def name_of(part: Mapping[str, Any], kind: Kind, where: str) -> str:
    """The path of a part's medium; where it stands, if it has none."""
    path = part.get("path")
    if isinstance(path, str | Path) and not is_data_url(path):
        return source_name(path, kind)
    return f"the {kind} in {where}"


def _is_pipe(source: Any) -> bool:
    if not isinstance(source, str | Path) or is_data_url(source):
        return False
    path = with_home(source)
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


def _of_pictures(
    kind: Kind,
    source: Any,
    part: Mapping[str, Any],
    config: Config,
    settings: MediaSettings,
) -> list[int]:
    from ..vision.images import soft_tokens

    if config.vision_config is None:
        return []
    if kind == "image":
        from ..vision.pages import page_sizes

        sizes, budget = page_sizes(source), settings.image_tokens
    else:
        from ..vision.video import frame_sizes

        frames = part.get("num_frames", settings.frames)
        sizes = frame_sizes(source, frames, part.get("fps"))
        budget = settings.frame_tokens
    cut = config.vision_config.patches
    sizes = [size for size in sizes if min(size)]  # a damaged film has none
    found = {s: soft_tokens(*s, budget, cut.side, cut.pooling) for s in set(sizes)}
    return [found[size] for size in sizes]


def _of_sound(
    source: Any,
    part: Mapping[str, Any],
    config: Config,
    settings: MediaSettings,
    name: str,
) -> list[int]:
    from ..audio.features import check_length
    from ..audio.files import stated_seconds

    audio = settings.audio
    if config.audio_config is None:
        return []
    seconds = stated_seconds(source, part.get("track"))
    samples = round(seconds * audio.sampling_rate)
    if seconds > audio.longest_seconds + TOO_LONG:
        assert isinstance(audio, AudioFeatureConfig)
        try:
            check_length(samples, audio)
        except MediaError as error:
            raise MediaError(f"{name}: {error}") from None
    return [audio.soft_tokens(samples)] if samples else []
