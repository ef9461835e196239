"""Transcripts as files: txt, srt, vtt and json.

A segment is what the model heard at once, up to half a minute, from the first word to
the last. For subtitles it is divided into cues, whose times follow the pauses that were
heard and in between the length of the text.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..attach.messages import Message, content_of
from ..render import json_text
from .cues import Cue, cues
from .lines import two_lines

if TYPE_CHECKING:
    from mlx_gemma4.recordings.pieces import Segment


@dataclass
class Transcript:
    """What was said in one recording. Times in seconds; languages as names or None."""

    file: str
    model: str
    duration: float
    language: str | None = None
    translated_to: str | None = None
    segments: list["Segment"] = field(default_factory=list)
    stats: dict[str, float] = field(default_factory=dict)

    def shown(self, segment: "Segment") -> str:
        """The text to print: the translation where one was asked for."""
        return segment.translation if self.translated_to else segment.text

    def as_object(self) -> dict[str, Any]:
        """The shape that Whisper's tools write and read, and a little more."""
        translated = self.translated_to is not None
        segments = []
        for i, segment in enumerate(self.segments):
            times = {"start": round(segment.start, 3), "end": round(segment.end, 3)}
            entry = {"id": i, **times, "text": segment.text}
            if translated:
                entry["translation"] = segment.translation
            segments.append(entry)
        result: dict[str, Any] = {
            "file": self.file,
            "model": self.model,
            "language": self.language,
            "duration": round(self.duration, 3),
            "text": joined(s.text for s in self.segments),
            "segments": segments,
            "stats": self.stats,
        }
        if translated:
            result["translated_to"] = self.translated_to
            result["translation"] = joined(s.translation for s in self.segments)
        return result

    def as_messages(self) -> list[Message]:
        """What a chat can go on with."""
        asked = "Write down what is said."
        if self.translated_to:
            asked += f" Translate it into {self.translated_to}."
        path = os.path.abspath(os.path.expanduser(self.file))
        heard = [{"type": "audio", "path": path}] if os.path.isfile(path) else []
        return [
            {"role": "user", "content": content_of(asked, heard)},
            {"role": "assistant", "content": txt(self)},
        ]


def joined(texts: Iterator[str]) -> str:
    """Segments as running text; no space between scripts that have none."""
    return re.sub(
        r"(?<=[\u3040-\u9fff。！？、，]) (?=[\u3040-\u9fff])", "", " ".join(texts)
    )


def timestamp(seconds: float, mark: str) -> str:
    """`01:02:03,456` with `mark` before the thousandths."""
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    return (
        f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{mark}{rest % 1000:03}"
    )


def txt(transcript: Transcript) -> str:
    lines = map(transcript.shown, transcript.segments)
    return "".join(f"{line}\n" for line in lines if line)


def srt(transcript: Transcript) -> str:
    blocks = []
    for number, cue in enumerate(all_cues(transcript), 1):
        times = f"{timestamp(cue.start, ',')} --> {timestamp(cue.end, ',')}"
        blocks.append(f"{number}\n{times}\n{two_lines(cue.text)}\n")
    return "\n".join(blocks)


def vtt(transcript: Transcript) -> str:
    blocks = ["WEBVTT\n"]
    for cue in all_cues(transcript):
        times = f"{timestamp(cue.start, '.')} --> {timestamp(cue.end, '.')}"
        text = two_lines(cue.text)
        for character, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            text = text.replace(character, name)
        blocks.append(f"{times}\n{text}\n")
    return "\n".join(blocks)


def all_cues(transcript: Transcript) -> Iterator[Cue]:
    for segment in transcript.segments:
        text = transcript.shown(segment)
        yield from cues(segment.start, segment.end, text, segment.parts)


def as_json(transcript: Transcript) -> str:
    return json_text(transcript.as_object()) + "\n"


WRITERS: dict[str, Callable[[Transcript], str]] = {
    "txt": txt,
    "srt": srt,
    "vtt": vtt,
    "json": as_json,
}
