"""`gemma4 transcribe`: recordings of any length to text, subtitles or JSON."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mlx_gemma4.config.ple import Ple
from mlx_gemma4.errors import ChatError, MediaError

from .. import options
from ..chat.setup import Setup, is_kept
from ..errors import (
    INPUT,
    batch_code,
    concerns_all,
    report_file,
    reported,
)
from ..files import STDIN, first_bytes
from ..inputs import read_piped_bytes
from ..loading import open_model, saved_name, warnings_noted
from ..logs.options import Log
from ..media_formats import START, format_of
from ..model_senses import require_sense
from ..options import Panel
from ..progress import Progress
from ..render import Screen
from ..settings import Settings
from .languages import language_name
from .options import Piece, Translate
from .output import TranscriptOutput
from .sources import MICROPHONE, recordings, sources
from .transcript import Transcript

if TYPE_CHECKING:
    import numpy as np

    from mlx_gemma4.audio.files import Recording
    from mlx_gemma4.recordings.pieces import Segment

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
    kv_bits: options.KvBits = None,
    max_context: options.MaxContext = None,
    piece: Piece = None,
    rows: options.Rows = options.ROWS,
    mic: Annotated[
        bool,
        Panel.TASK.option("--mic", help="Record from the microphone (extra `mic`)."),
    ] = False,
    yes: options.Yes = False,
    as_json: options.Json = False,
    keep: Log = None,
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
            settings=Settings(
                draft=draft, ple=ple, kv_bits=kv_bits, max_context=max_context
            ),
            piece=piece,
            rows=rows,
        )
        job.keep = is_kept(keep, as_json) and len(job.sources) == 1
        job.output.check(job.sources)
        with warnings_noted(job.screen):
            code = job.run(model, adapter, yes)
    if code:
        raise typer.Exit(code)


@dataclass
class Transcribing:
    """Some recordings and what is wanted of them."""

    sources: list[str]
    language: str | None
    translate: str | None
    output: TranscriptOutput
    screen: Screen
    track: int | None = None
    settings: Settings = field(default_factory=Settings)
    piece: float | None = None  # seconds heard at once, if not the model's own
    rows: int = 1  # pieces that are heard at once
    bar: Progress | None = None  # of the recording that is written down
    keep: bool = False  # as a conversation to go on with
    damaged: int = 0  # the exit code if a recording was damaged

    def run(
        self, model_name: str | None, adapter: Path | None = None, yes: bool = False
    ) -> int:
        """Transcribes everything; returns the exit code."""
        from mlx_gemma4.recordings.transcribe import seconds_at_once, transcribe_each

        how = self.settings.options
        model, processor, name = open_model(
            model_name, self.screen, adapter, yes=yes, **self.settings.loading
        )
        require_sense(model.config, name, "audio")
        seconds_at_once(processor.media.audio, self.piece)
        failed: list[str] = []
        codes: list[int] = []
        heard: dict[int, Recording] = {}
        talks = transcribe_each(
            model,
            processor,
            (partial(self.read, number, heard) for number in range(len(self.sources))),
            language=self.language,
            translate=self.translate,
            piece_seconds=self.piece,
            draft=how["draft"],
            kv_bits=how["kv_bits"],
            max_context=how["max_context"],
            progress=self.update,
            rows=self.rows,
        )
        for number, segments in enumerate(talks):
            source = self.sources[number]
            try:
                recording = heard.pop(number, None)
                text = self.write(number, name, recording, segments, len(failed))
                if self.keep and text.segments:
                    self.keep_transcript(text, adapter)
            except Exception as error:
                if concerns_all(error) or isinstance(error, ChatError):
                    raise
                self.screen.end()
                failed.append(source)
                codes.append(report_file(error, self.screen.as_json, source))
        if failed and len(self.sources) > 1:
            self.screen.note(
                f"{len(failed)} of {len(self.sources)} gave no transcript: "
                f"{', '.join(failed)}"
            )
        return batch_code(codes, len(self.sources)) or self.damaged

    def read(self, number: int, heard: "dict[int, Recording]") -> "np.ndarray":
        """The samples of a recording, which is in `heard` from then on."""
        from mlx_gemma4.audio.files import read_recording

        source = self.opened(self.sources[number])
        heard[number] = read_recording(source, track=self.track)
        return heard[number].samples

    def update(self, seconds: float) -> None:
        if self.bar is not None:
            self.bar.update(seconds)

    def write(
        self,
        number: int,
        name: str,
        recording: "Recording | None",
        segments: "Iterator[Segment]",
        failed: int,
    ) -> Transcript:
        """Delivers what is said in a recording. Raises what reading it raised."""
        from mlx_gemma4.audio.files import RATE

        source = self.sources[number]
        if recording is None:  # it could not be read, which its segments say
            list(segments)
        assert recording is not None
        if recording.damage:
            self.screen.note(f"Warning: {recording.damage}")
            self.damaged = INPUT
        transcript = Transcript(
            source, name, len(recording.samples) / RATE, self.language, self.translate
        )
        label = Path(source).name
        if len(self.sources) > 1:
            label = f"{number + 1}/{len(self.sources)} {label}"
            if self.output.streams:
                self.print_line(f"{source}:" if number == failed else f"\n{source}:")
        started = time.perf_counter()
        bar = self.bar = Progress(self.screen, label, transcript.duration)
        try:
            for segment in segments:
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

        name = saved_name(transcript.model)
        setup = Setup(name, adapter, None, None, self.settings)
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
