"""Speech to text, and to another language, for recordings of any length."""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..audio.files import RATE
from ..audio.framing import AudioFeatureConfig, AudioSampleConfig
from ..decoding.batch import ROWS
from ..decoding.drafts import Draft
from ..errors import ChatError, MediaError
from ..generation.answer import Chunk, Response
from ..generation.ordered import in_order
from ..model import Gemma4
from ..prompt.processor import Processor
from ..prompt.transcription import split_translation, transcription_prompt
from .loops import once
from .pieces import Part, Piece, Segment, cut, merge
from .voice import Voices, tell_wordless

# Fast speech has 5 words a second, and few languages take 4 tokens a word.
TOKENS_PER_SECOND = 20
TOKENS_AT_LEAST = 64
SHORTEST = 5.0  # seconds of a piece: a sentence, and room for a pause to cut in
AUDIBLE = 1e-3  # of full scale; less is what a recorder or a codec adds to silence


def transcribe(
    model: Gemma4,
    processor: Processor,
    samples: np.ndarray,
    *,
    language: str | None = None,
    translate: str | None = None,
    piece_seconds: float | None = None,
    draft: Draft | None = None,
    kv_bits: int | None = None,
    max_context: int | None = None,
    progress: Callable[[float], None] | None = None,
    rows: int = 1,
) -> Iterator[Segment]:
    """What is said in a recording, segment by segment, greedily and without thinking.

    The model is not asked about stretches in which nobody speaks; a warning says which
    held sound. What it repeats without end is kept once, with a warning.
    `samples`: float32 mono at 16 kHz, `[n]`, as `read_audio` gives them; any length.
    `language`, `translate`: English names of the language spoken and of the one to
    translate into. `piece_seconds`: the most that is heard at once, see
    `seconds_at_once`. `draft`, `kv_bits` and `max_context` are those of
    `stream_generate`. `progress` is told the seconds done so far. `rows`: how many
    pieces are heard at once. Raises MediaError if the model cannot hear, ChatError for
    pieces that it cannot take.
    """
    task = _Task(language, translate, draft, kv_bits, max_context)
    limit = _limit(model, processor, piece_seconds)
    recordings = [lambda: samples]
    return _Hearing(model, processor, recordings, task, limit, progress, rows).told()


def transcribe_each(
    model: Gemma4,
    processor: Processor,
    recordings: Iterable[Callable[[], np.ndarray]],
    *,
    language: str | None = None,
    translate: str | None = None,
    piece_seconds: float | None = None,
    draft: Draft | None = None,
    kv_bits: int | None = None,
    max_context: int | None = None,
    progress: Callable[[float], None] | None = None,
    rows: int = ROWS,
) -> Iterator[Iterator[Segment]]:
    """The segments of each recording, to be read one after another; pieces of those
    behind it are heard at the same time.

    recordings: give the samples of each, once there is a row for it. What one raises,
        its segments raise. The rest is as for `transcribe`.
    """
    task = _Task(language, translate, draft, kv_bits, max_context)
    limit = _limit(model, processor, piece_seconds)
    hearing = _Hearing(model, processor, recordings, task, limit, progress, rows)
    while hearing.begins():
        yield hearing.told()


@dataclass(frozen=True)
class _Task:
    """What is to be done with each piece; see `transcribe`."""

    language: str | None
    translate: str | None
    draft: Draft | None
    kv_bits: int | None
    max_context: int | None

    def options(self, piece: Piece) -> dict[str, Any]:
        """Those of `stream_generate`."""
        prompt = transcription_prompt(self.language, self.translate)
        content = [
            {"type": "text", "text": prompt},
            {"type": "audio", "audio": (piece.samples, RATE)},
        ]
        return {
            "messages": [{"role": "user", "content": content}],
            "temperature": 0.0,
            "max_tokens": self.limit(piece),
            "stop_loops": False,  # `once` knows those of speech
            "draft": self.draft,
            "kv_bits": self.kv_bits,
            "max_context": self.max_context,
        }

    def limit(self, piece: Piece) -> int:
        """How many tokens are enough for all that can be said in it."""
        seconds, languages = piece.end - piece.start, 2 if self.translate else 1
        return TOKENS_AT_LEAST + round(seconds * TOKENS_PER_SECOND) * languages

    def texts(self, piece: Piece, answer: Response) -> tuple[str, str]:
        """What is said in a piece, and its translation."""
        if answer.finish_reason == "length":
            warnings.warn(
                f"What is said from {piece.start:.1f} to {piece.end:.1f} s was cut off "
                f"after {self.limit(piece)} tokens: the model did not come to an end.",
                stacklevel=2,
            )
        text, translation = answer.text, ""
        if self.translate:
            text, translation = split_translation(answer.text, self.translate)
            _check_translated(piece, text, translation, self.translate)
        return _once(piece, text), _once(piece, translation)


@dataclass(frozen=True)
class _End:
    """Of a recording. error: why it could not be heard."""

    error: Exception | None = None


class _Hearing:
    """Recordings as they are heard, piece by piece."""

    def __init__(
        self,
        model: Gemma4,
        processor: Processor,
        recordings: Iterable[Callable[[], np.ndarray]],
        task: _Task,
        limit: float,
        progress: Callable[[float], None] | None,
        rows: int,
    ) -> None:
        self._task, self._limit, self._progress = task, limit, progress
        self._coming: deque[Piece | _End] = deque()  # that nobody was told of
        self._inside = False  # one whose end has not been reached
        self._chunks: Iterator[Chunk] | None = None  # of the first one with speech
        self._answers = in_order(model, processor, self._asked(recordings), rows)

    def begins(self) -> bool:
        """Whether there is another recording; what is left of one is given up."""
        while self._inside and self._goes_on():
            left = self._coming.popleft()
            if isinstance(left, _End):
                self._inside = False
            elif left.parts:
                self._taken()
        return self._goes_on()

    def _taken(self) -> Iterator[Chunk]:
        """The answer to the first piece with speech."""
        chunks, self._chunks = self._chunks, None
        return next(self._answers) if chunks is None else chunks

    def _goes_on(self) -> bool:
        """Whether there is another piece, or end, to be told of."""
        if not self._coming:
            self._chunks = next(self._answers, None)
        return bool(self._coming)

    def told(self) -> Iterator[Segment]:
        """The segments of the next recording."""
        return merge(self._heard())

    def _asked(
        self, recordings: Iterable[Callable[[], np.ndarray]]
    ) -> Iterator[Callable[[], dict[str, Any]]]:
        """What is asked of each piece with speech, as soon as it is known what comes
        before the one after it."""
        voices = Voices()
        for samples in recordings:
            last: Piece | None = None
            try:
                for piece in cut(samples(), self._limit):
                    parts = voices.parts(piece.samples, piece.start)
                    piece = piece._replace(parts=tuple(parts))
                    if parts and last is not None:
                        yield partial(self._task.options, last)
                    self._coming.append(piece)
                    last = piece if parts else last
            except Exception as error:
                self._coming.append(_End(error))
            else:
                self._coming.append(_End())
            if last is not None:
                yield partial(self._task.options, last)

    def _heard(self) -> Iterator[tuple[Piece, str, str]]:
        wordless: list[Part] = []
        self._inside = True
        while self._goes_on():
            piece = self._coming.popleft()
            if isinstance(piece, _End):
                self._inside = False
                if piece.error is not None:
                    raise piece.error
                break
            text = translation = ""
            if piece.parts:
                answer = Response.of(self._taken())
                text, translation = self._task.texts(piece, answer)
            elif np.abs(piece.samples).max() > AUDIBLE:
                wordless.append(Part(piece.start, piece.end))
            if self._progress is not None:
                self._progress(piece.end)
            yield piece, text, translation
        tell_wordless(wordless)


def _limit(model: Gemma4, processor: Processor, wanted: float | None) -> float:
    """As `seconds_at_once`. Raises MediaError if the model cannot hear."""
    if model.config.audio_config is None:
        raise MediaError(
            "This model cannot hear. Gemma 4 E2B, E4B and 12B do; choose one."
        )
    return seconds_at_once(processor.media.audio, wanted)


def seconds_at_once(
    audio: AudioFeatureConfig | AudioSampleConfig, wanted: float | None
) -> float:
    """The most seconds of sound in a piece: `wanted`, or what the checkpoint states.

    Without a tower any length can be heard, and the reference cuts nothing off; but
    30 s (`audio_seq_length`) is all that a checkpoint says of what it was made for.
    Raises ChatError for less than 5 s, or more than the model takes.
    """
    if wanted is None:
        return audio.piece_seconds
    longest = audio.longest_seconds
    least = min(SHORTEST, longest)
    if least <= wanted <= longest:
        return wanted
    told = f"it must have at least {least:g}"
    if wanted > longest:
        told = f"this model hears at most {longest:g} s at once"
    raise ChatError(f"The piece to be heard at once has {wanted:g} s; {told}.")


def _once(piece: Piece, text: str) -> str:
    short = once(text)
    if short.loop:
        warnings.warn(
            f"From {piece.start:.1f} to {piece.end:.1f} s the model repeated itself "
            f"({short.times} times: {short.loop}); that is kept once.",
            stacklevel=2,
        )
    return short.text


def _check_translated(piece: Piece, text: str, translation: str, target: str) -> None:
    if text and not translation:
        warnings.warn(
            f"What is said from {piece.start:.1f} to {piece.end:.1f} s was not "
            f"translated into {target}: {text}",
            stacklevel=2,
        )
