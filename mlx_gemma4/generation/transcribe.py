"""Speech to text, and to another language, for recordings of any length.

The prompts are Google's, from the Gemma 4 model card, word for word: the model was
trained with them, and the card puts the sound after them.
"""

import re
import warnings
from collections.abc import Callable, Iterator

import numpy as np

from ..audio.files import RATE
from ..audio.framing import AudioFeatureConfig, AudioSampleConfig
from ..decoding.drafts import Draft
from ..errors import ChatError, MediaError
from ..model import Gemma4
from ..prompt.processor import Processor
from .loop import generate
from .loops import once
from .pieces import Part, Piece, Segment, cut, merge
from .voice import Voices

FORMAT = (
    "Follow these specific instructions for formatting the answer:\n"
    "* Only output the transcription, with no newlines.\n"
    "* When transcribing numbers, write the digits, i.e. write 1.7 and not one point "
    "seven, and write 3 instead of three."
)
# Fast speech has 5 words a second, and few languages take 4 tokens a word.
TOKENS_PER_SECOND = 20
TOKENS_AT_LEAST = 64
STRETCHES_TOLD = 4
SHORTEST = 5.0  # seconds of a piece: a sentence, and room for a pause to cut in
AUDIBLE = 1e-3  # of full scale; less is what a recorder or a codec adds to silence


def transcription_prompt(language: str | None = None, target: str | None = None) -> str:
    """What to ask for. Languages by their English names; None is as spoken.

    `target`: the language to translate into as well.
    """
    spoken = language or "its original language"
    if target:
        original = language or "the original language"
        return (
            f"Transcribe the following speech segment in {spoken}, then translate it "
            f"into {target}.\nWhen formatting the answer, first output the "
            f"transcription in {original}, then one newline, then output the string "
            f"'{target}: ', then the translation in {target}."
        )
    if language:
        task = f"Transcribe the following speech segment in {spoken} into {spoken} text"
        return f"{task}.\n\n{FORMAT}"
    return f"Transcribe the following speech segment in {spoken}. {FORMAT}"


def transcribe(
    model: Gemma4,
    processor: Processor,
    samples: np.ndarray,
    *,
    language: str | None = None,
    translate: str | None = None,
    piece_seconds: float | None = None,
    draft: Draft | None = None,
    progress: Callable[[float], None] | None = None,
) -> Iterator[Segment]:
    """What is said in a recording, segment by segment, greedily and without thinking.

    The model is not asked about stretches in which nobody speaks; a warning says which
    held sound. What it repeats without end is kept once, with a warning.
    `samples`: float32 mono at 16 kHz, `[n]`, as `read_audio` gives them; any length.
    `language`, `translate`: English names of the language spoken and of the one to
    translate into. `piece_seconds`: the most that is heard at once, see
    `seconds_at_once`. `draft` is that of `stream_generate`. `progress` is told the
    seconds done so far. Raises MediaError if the model cannot hear, ChatError for
    pieces that it cannot take.
    """
    if model.config.audio_config is None:
        raise MediaError(
            "This model cannot hear. Gemma 4 E2B, E4B and 12B do; choose one."
        )
    prompt = transcription_prompt(language, translate)
    limit = seconds_at_once(processor.media.audio, piece_seconds)
    voices = Voices()

    def heard() -> Iterator[tuple[Piece, str, str]]:
        wordless: list[Part] = []
        for piece in cut(samples, limit):
            parts = voices.parts(piece.samples, piece.start)
            if not parts:
                if np.abs(piece.samples).max() > AUDIBLE:
                    wordless.append(Part(piece.start, piece.end))
                if progress is not None:
                    progress(piece.end)
                yield piece, "", ""
                continue
            piece = piece._replace(parts=tuple(parts))
            answer = _ask(model, processor, piece, prompt, 2 if translate else 1, draft)
            text, translation = answer, ""
            if translate:
                text, translation = split_translation(answer, translate)
                _check_translated(piece, text, translation, translate)
            text, translation = (_once(piece, said) for said in (text, translation))
            if progress is not None:
                progress(piece.end)
            yield piece, text, translation
        _tell_wordless(wordless)

    return merge(heard())


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


def _tell_wordless(parts: list[Part]) -> None:
    if not parts:
        return
    joined: list[Part] = []
    for part in parts:  # where there is no pause, a recording is cut with an overlap
        if joined and part.start <= joined[-1].end:
            joined[-1] = Part(joined[-1].start, part.end)
        else:
            joined.append(part)
    parts = joined
    told = [f"{part.start:.1f} to {part.end:.1f} s" for part in parts[:STRETCHES_TOLD]]
    more = len(parts) - len(told)
    told += [f"{more} more"] if more else []
    warnings.warn(f"There is sound but no speech at {', '.join(told)}.", stacklevel=2)


def _ask(
    model: Gemma4,
    processor: Processor,
    piece: Piece,
    prompt: str,
    languages: int,
    draft: Draft | None,
) -> str:
    content = [
        {"type": "text", "text": prompt},
        {"type": "audio", "audio": (piece.samples, RATE)},
    ]
    seconds = piece.end - piece.start
    limit = TOKENS_AT_LEAST + round(seconds * TOKENS_PER_SECOND) * languages
    answer = generate(
        model,
        processor,
        [{"role": "user", "content": content}],
        temperature=0.0,
        max_tokens=limit,
        stop_loops=False,  # `once` knows those of speech
        draft=draft,
    )
    if answer.finish_reason == "length":
        warnings.warn(
            f"What is said from {piece.start:.1f} to {piece.end:.1f} s was cut off "
            f"after {limit} tokens: the model did not come to an end.",
            stacklevel=2,
        )
    return answer.text


def _check_translated(piece: Piece, text: str, translation: str, target: str) -> None:
    if text and not translation:
        warnings.warn(
            f"What is said from {piece.start:.1f} to {piece.end:.1f} s was not "
            f"translated into {target}: {text}",
            stacklevel=2,
        )


def split_translation(answer: str, target: str) -> tuple[str, str]:
    """The two parts of an answer: `transcription, newline, Target: translation`."""
    mark = re.compile(rf"(?:^|\n)\s*{re.escape(target)}\s*:\s*", re.IGNORECASE)
    parts = mark.split(answer.strip(), maxsplit=1)
    if len(parts) == 1:
        parts = answer.strip().split("\n", maxsplit=1)
    return parts[0].strip(), parts[1].strip() if len(parts) == 2 else ""
