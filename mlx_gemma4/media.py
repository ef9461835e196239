"""Pictures, video frames and sound on their way from the processor to the model."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple, cast

import mlx.core as mx

from .errors import MediaError

Kind = Literal["image", "audio", "video"]
# Not .ts and .mts: those are programs in TypeScript as well, so their content decides.
SUFFIXES: dict[Kind, str] = {
    "image": "jpg jpeg jpe png apng webp gif bmp tif tiff heic heif avif",
    "audio": "wav flac ogg oga opus mp3 m4a aac aif aiff caf wma mka amr",
    "video": "mp4 mov m4v mkv webm avi mpg mpeg wmv flv ogv m2ts 3gp",
}
KIND_OF_SUFFIX: dict[str, Kind] = {
    f".{end}": kind for kind, ends in SUFFIXES.items() for end in ends.split()
}


class Picture(NamedTuple("Picture", [("pixels", mx.array), ("positions", mx.array)])):
    """A picture, or one of a video's: pixels float32 `[P, patch² * 3]` in 0..1 and
    positions int32 `[P, 2]` as (x, y); rows of -1 are padding."""

    def soft_tokens(self, pooling: int) -> int:
        """How many it has where `pooling`² patches make one."""
        return cast(int, (self.positions[:, 0] >= 0).sum().item()) // pooling**2

    @cached_property
    def digest(self) -> int:
        return _digest(self)


class Clip(NamedTuple("Clip", [("features", mx.array), ("mask", mx.array)])):
    """A recording: float32 `[T, n]`, log-mel frames or samples, and bool `[T]`, which
    of them count."""

    @cached_property
    def digest(self) -> int:
        return _digest(self)


Medium = Picture | Clip


def _digest(medium: Iterable[mx.array]) -> int:
    """A negative number that stands for the content of a medium."""
    digest = hashlib.sha256()
    for array in medium:
        digest.update(memoryview(mx.contiguous(array)))  # type: ignore[arg-type]
    return -1 - int.from_bytes(digest.digest()[:8])


@dataclass(frozen=True)
class Attached:
    """A medium of a prompt, and its placeholder: `count` times `token`."""

    kind: Kind
    medium: Medium
    token: int
    count: int


@dataclass(frozen=True)
class Span:
    """A medium where it stands: its placeholders are the tokens `start` to `end`."""

    kind: Kind
    start: int
    end: int
    medium: Medium

    def moved(self, by: int) -> "Span":
        return replace(self, start=self.start + by, end=self.end + by)


def find_spans(tokens: Sequence[int], attached: Iterable[Attached]) -> list[Span]:
    """Where the media of a prompt stand among its tokens, one behind the other.

    Raises MediaError where the tokens do not hold as many placeholders as a medium has
    soft tokens: its file has changed since they were written.
    """
    spans: list[Span] = []
    end = 0
    for each in attached:
        places = (i for i in range(end, len(tokens)) if tokens[i] == each.token)
        start = next(places, len(tokens))
        end = start + each.count
        if list(tokens[start:end]) != [each.token] * each.count:
            raise MediaError(
                f"The prompt does not hold the {each.count} placeholders that its "
                f"{each.kind} needs: did the file change in between?"
            )
        spans.append(Span(each.kind, start, end, each.medium))
    return spans


def content_keys(tokens: Sequence[int], spans: Iterable[Span]) -> list[int]:
    """The tokens, but with a number of its own for the content of each medium in place
    of its placeholders, so that two prompts can be compared."""
    keys = list(tokens)
    for span in spans:
        keys[span.start : span.end] = [span.medium.digest] * (span.end - span.start)
    return keys


@dataclass(frozen=True)
class Media:
    """The media of one call to the model, each list in order of appearance.

    `images` and `frames` hold `(pixels, positions)`, see Picture; `frames` are the
    pictures of the videos, one by one. `audio` holds `(features, mask)`, see Clip.
    `spans` say where they stand in the flattened tokens of the call; None has the model
    look for their placeholders.
    """

    images: Sequence[tuple[mx.array, mx.array]] = ()
    frames: Sequence[tuple[mx.array, mx.array]] = ()
    audio: Sequence[tuple[mx.array, mx.array]] = ()
    spans: Sequence[Span] | None = None

    @classmethod
    def at(cls, spans: Sequence[Span]) -> "Media":
        """The media of `spans`, in order, with their places."""
        kinds: tuple[Kind, ...] = ("image", "video", "audio")
        lists = ([s.medium for s in spans if s.kind == kind] for kind in kinds)
        return cls(*lists, spans=spans)

    def places(self, kind: Kind) -> list[int] | None:
        """The positions of all placeholders of one kind, if they are known."""
        if self.spans is None:
            return None
        own = (span for span in self.spans if span.kind == kind)
        return [place for span in own for place in range(span.start, span.end)]


def media_between(spans: Iterable[Span], start: int, end: int) -> Media | None:
    """What stands from `start` to `end`, none across, for a call with those tokens."""
    found = [s.moved(-start) for s in spans if start <= s.start < end]
    return Media.at(found) if found else None
