"""`gemma4 transcribe`: recordings of any length to text, subtitles or JSON."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mlx_gemma4.config.ple import Ple
from mlx_gemma4.errors import ChatError, MediaError
from mlx_gemma4.reading.sources import find_alike, is_url

from .. import options
from ..chat.setup import Setup, is_kept
from ..drafts import check_draft, mode_of
from ..errors import (
    INPUT,
    InputError,
    UsageError,
    batch_code,
    concerns_all,
    no_file,
    report_file,
    reported,
)
from ..files import STDIN, exists, first_bytes, matches
from ..inputs import read_piped_bytes
from ..loading import open_model, saved_name, warnings_noted
from ..media_formats import START, format_of
from ..model_senses import require_sense
from ..options import Panel
from ..progress import Progress
from ..render import Screen
from ..settings import Settings
from .languages import language_name
from .options import Piece, Translate
from .output import TranscriptOutput
from .transcript import Transcript

if TYPE_CHECKING:
    from mlx_gemma4 import Gemma4, Processor

MICROPHONE = "microphone"
Format = Literal["txt", "srt", "vtt", "json"]


def transcribe(
    audio: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE",
            help="Recordings, or videos with sound: files, quoted patterns, - for "
            "standard input.",
            show_default=False,
        ),
    ] = None,
    model: options.Model = None,
    adapter: options.Adapter = None,
    form: Annotated[
        Format | None,
        Panel.OUTPUT.option(
            "--format", "-f", help="Default: txt. srt and vtt are subtitles."
        ),
    ] = None,
    language: Annotated[
        str | None,
        Panel.TASK.option(
            "--language",
            "-l",
            metavar="LANG",
            help="What is spoken: German or de. Default: any.",
        ),
    ] = None,
    translate: Translate = None,
    output: Annotated[
        Path | None,
        Panel.OUTPUT.option(
            "--output",
            "-o",
            metavar="DIR",
            help="Write one file per recording here, not to standard output.",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    track: options.Track = None,
    draft: options.Draft = None,
    ple: options.PerLayer = Ple.AUTO,
    piece: Piece = None,
    mic: Annotated[
        bool,
        Panel.TASK.option("--mic", help="Record from the microphone (extra `mic`)."),
    ] = False,
    yes: options.Yes = False,
    as_json: options.Json = False,
    keep: options.Log = None,
) -> None:
    """Write down what is said in recordings, also long ones.

    Only transcripts are printed to stdout. A recording that is missing or cannot be
    read is reported, the others are still transcribed, and the exit code is 5; so it is
    for what could be heard of a damaged one.

    Examples:
    gemma4 transcribe talk.mp3
    gemma4 transcribe talk.mp3 --format srt -o subtitles
    gemma4 transcribe interview.m4a --language de --translate English
    gemma4 transcribe --mic
    """
    with reported(as_json):
        screen = Screen(as_json=as_json)
        form = form or ("json" if as_json and output is None else "txt")
        job = Transcribing(
            sources=sources(audio or [], mic),
            language=language_name(language, "--language"),
            translate=language_name(translate, "--translate"),
            output=TranscriptOutput(form, output, screen, overwrite),
            screen=screen,
            track=track,
            draft=draft,
            ple=ple,
            piece=piece,
        )
        check_draft(draft)
        job.keep = is_kept(keep, as_json) and len(job.sources) == 1
        job.output.check(job.sources)
        with warnings_noted(job.screen):
            code = job.run(model, adapter, yes)
    if code:
        raise typer.Exit(code)


def sources(audio: list[str], mic: bool) -> list[str]:
    """What to transcribe, checked before a model is loaded for it."""
    if mic and audio:
        raise UsageError("Give either recordings or --mic.")
    if not mic and not audio:
        raise UsageError("Name a recording, or record one with --mic.")
    if audio.count(STDIN) > 1:
        raise UsageError("Standard input can be read only once.")
    found: list[str] = []
    problems: list[InputError] = []
    for name in audio:
        try:
            found += recordings(name)
        except InputError as error:  # said when it is its turn
            found.append(name)
            problems.append(error)
    if problems and len(problems) == len(found):
        raise InputError(" ".join(map(str, problems)))
    return [MICROPHONE] if mic else found


def recordings(name: str) -> list[str]:
    """The files that a name or a pattern stands for, in order. Raises InputError."""
    if name == STDIN or exists(name):
        return [name]
    if is_url(name):
        raise InputError(f"{name} is a URL: download the recording first.")
    found = matches(name)
    if not found and (alike := find_alike(Path(os.path.expanduser(name)))):
        return [str(alike)]
    if not found:
        raise no_file(name)
    return found


@dataclass
class Transcribing:
    """Some recordings and what is wanted of them."""

    sources: list[str]
    language: str | None
    translate: str | None
    output: TranscriptOutput
    screen: Screen
    track: int | None = None
    draft: str | None = None
    ple: Ple = Ple.AUTO
    piece: float | None = None  # seconds heard at once, if not the model's own
    keep: bool = False  # as a conversation to go on with
    damaged: int = 0  # the exit code if a recording was damaged

    def run(
        self, model_name: str | None, adapter: Path | None = None, yes: bool = False
    ) -> int:
        """Transcribes everything; returns the exit code."""
        from mlx_gemma4.generation.transcribe import seconds_at_once

        model, processor, name = open_model(
            model_name, self.screen, adapter, yes=yes, draft=self.draft, ple=self.ple
        )
        require_sense(model.config, name, "audio")
        seconds_at_once(processor.media.audio, self.piece)
        failed: list[str] = []
        codes: list[int] = []
        for number, source in enumerate(self.sources):
            first = number == len(failed)
            try:
                text = self.transcribe_one(model, processor, name, number, first)
                if self.keep and text.segments:
                    self.keep_transcript(text, adapter)
            except Exception as error:
                if concerns_all(error) or isinstance(error, ChatError):
                    raise
                self.screen.end()
                failed.append(source)
                codes.append(report_file(error, self.screen.as_json))
        if failed and len(self.sources) > 1:
            self.screen.note(
                f"{len(failed)} of {len(self.sources)} gave no transcript: "
                f"{', '.join(failed)}"
            )
        return batch_code(codes, len(self.sources)) or self.damaged

    def transcribe_one(
        self,
        model: "Gemma4",
        processor: "Processor",
        name: str,
        number: int,
        first: bool,
    ) -> Transcript:
        from mlx_gemma4.audio.files import RATE, read_recording
        from mlx_gemma4.generation.transcribe import transcribe

        source = self.sources[number]
        recording = read_recording(self.opened(source), track=self.track)
        if recording.damage:
            self.screen.note(f"Warning: {recording.damage}")
            self.damaged = INPUT
        samples = recording.samples
        transcript = Transcript(
            source, name, len(samples) / RATE, self.language, self.translate
        )
        label = Path(source).name
        if len(self.sources) > 1:
            label = f"{number + 1}/{len(self.sources)} {label}"
            if self.output.streams:
                self.print_line(f"{source}:" if first else f"\n{source}:")
        started = time.perf_counter()
        bar = Progress(self.screen, label, transcript.duration)
        try:
            for segment in transcribe(
                model,
                processor,
                samples,
                language=self.language,
                translate=self.translate,
                draft=mode_of(self.draft),
                piece_seconds=self.piece,
                progress=bar.update,
            ):
                transcript.segments.append(segment)
                if self.output.streams and transcript.shown(segment):
                    bar.hide()
                    self.print_line(transcript.shown(segment))
                    bar.show()
        except (KeyboardInterrupt, Exception):
            bar.hide()
            self.output.keep_part(transcript)
            raise
        finally:
            bar.hide()
        seconds = time.perf_counter() - started
        transcript.stats = {
            "seconds": round(seconds, 3),
            "times_real_time": round(transcript.duration / seconds, 2),
        }
        self.output.deliver(transcript)
        return transcript

    def keep_transcript(self, transcript: Transcript, adapter: Path | None) -> None:
        from ..logs.keeping import Keeper

        setup = Setup(saved_name(transcript.model), adapter, None, None, Settings())
        Keeper(self.screen).keep_whole(setup, transcript.as_messages())

    def opened(self, source: str) -> Any:
        """What `read_audio` takes."""
        if source == MICROPHONE:
            from .mic import record

            return record(self.screen)
        if source == STDIN:
            taken: Any = read_piped_bytes("gemma4 transcribe - < talk.mp3")
            name, start = "Standard input", taken[:START]
        else:
            recordings(source)  # it may be missing
            taken, name = Path(source).expanduser(), source
            # A pipe can be read only once, so nothing is looked at in advance.
            start = first_bytes(taken, source) if taken.is_file() else b""
        form = format_of(start)
        if form is not None and form.kind == "image":
            raise MediaError(
                f"{name} is {form.name}, not a recording: gemma4 describe says what is "
                "in it."
            )
        return taken

    def print_line(self, text: str) -> None:
        self.screen.answer(f"{text}\n")
