"""`gemma4 transcribe`: recordings of any length to text, subtitles or JSON."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import options
from .errors import (
    InputError,
    UsageError,
    exit_code,
    explain,
    no_file,
    report,
    reported,
)
from .files import STDIN, exists
from .inputs import read_piped_bytes
from .languages import language_name
from .loading import open_model, warnings_noted
from .progress import Progress
from .render import Screen
from .senses import require_sense
from .transcript import WRITERS, Transcript

if TYPE_CHECKING:
    from mlx_gemma4 import Gemma4, Processor

MICROPHONE = "microphone"
Format = Literal["txt", "srt", "vtt", "json"]


def transcribe(
    audio: Annotated[
        list[str] | None,
        typer.Argument(
            help="Recordings, or videos with sound. - is standard input.",
            show_default=False,
        ),
    ] = None,
    model: options.Model = None,
    adapter: options.Adapter = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="Default: txt. srt and vtt are subtitles."),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            "--language", "-l", help="What is spoken: German or de. Default: any."
        ),
    ] = None,
    translate: Annotated[
        str | None,
        typer.Option(
            "--translate", metavar="LANG", help="Translate into this language as well."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Write one file per recording here, not to standard output.",
        ),
    ] = None,
    mic: Annotated[
        bool,
        typer.Option("--mic", help="Record from the microphone (extra `mic`)."),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Write down what is said in recordings, also long ones.

    Only transcripts are printed to stdout. A recording that cannot be read is
    reported, the others are still transcribed, and the exit code is 5.
    """
    with reported(as_json):
        job = Job(
            sources=sources(audio or [], mic),
            form=form or ("json" if as_json and output is None else "txt"),
            language=language_name(language, "--language"),
            translate=language_name(translate, "--translate"),
            output=output,
            screen=Screen(as_json=as_json),
        )
        job.check()
        with warnings_noted(job.screen):
            code = job.run(model, adapter)
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
    for name in audio:
        if name != STDIN and not exists(name):
            raise no_file(name)
    return [MICROPHONE] if mic else audio


@dataclass
class Job:
    """Some recordings and what is wanted of them."""

    sources: list[str]
    form: str
    language: str | None
    translate: str | None
    output: Path | None
    screen: Screen
    targets: dict[str, Path] = field(default_factory=dict)

    def check(self) -> None:
        """Finds what cannot work. Raises UsageError or InputError."""
        as_json = self.screen.as_json
        if self.output is None:
            if as_json and self.form != "json":
                raise UsageError(
                    f"--json prints JSON; for {self.form} files as well add -o DIR."
                )
            if len(self.sources) > 1 and self.form in ("srt", "vtt"):
                raise UsageError(
                    f"Several recordings as {self.form} need a folder: add -o DIR."
                )
            return
        for source in self.sources:
            stem = "stdin" if source == STDIN else Path(source).stem
            target = self.output / f"{stem}.{self.form}"
            for other, taken in self.targets.items():
                if taken == target:
                    raise UsageError(
                        f"{other} and {source} would both be written to {target}."
                    )
            self.targets[source] = target
        try:
            self.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"Cannot write to {self.output}: {error.strerror}.") from (
                None
            )

    def run(self, model_name: str | None, adapter: Path | None = None) -> int:
        """Transcribes everything; the exit code of the first failure, or 0."""
        model, processor, name = open_model(model_name, self.screen, adapter)
        require_sense(model.config, name, "audio")
        code = 0
        for number in range(len(self.sources)):
            try:
                self.transcribe_one(model, processor, name, number)
            except ValueError as error:
                failed = exit_code(error)
                message, hint = explain(error, failed)
                self.screen.end()
                code = code or report(failed, message, hint, self.screen.as_json)
                if failed != exit_code(InputError()):
                    break  # not about this recording: the others would fail as well
        return code

    def transcribe_one(
        self, model: "Gemma4", processor: "Processor", name: str, number: int
    ) -> None:
        from mlx_gemma4.audio.files import RATE, read_audio
        from mlx_gemma4.audio.transcribe import transcribe

        source = self.sources[number]
        samples = read_audio(self.opened(source))
        transcript = Transcript(
            source, name, len(samples) / RATE, self.language, self.translate
        )
        label = Path(source).name
        if len(self.sources) > 1:
            label = f"{number + 1}/{len(self.sources)} {label}"
            if self.streams:
                self.print_line(f"{source}:" if number == 0 else f"\n{source}:")
        started = time.perf_counter()
        bar = Progress(self.screen, label, transcript.duration)
        try:
            for segment in transcribe(
                model,
                processor,
                samples,
                language=self.language,
                translate=self.translate,
                progress=bar.update,
            ):
                transcript.segments.append(segment)
                if self.streams:
                    bar.hide()
                    self.print_line(transcript.shown(segment))
                    bar.show()
        finally:
            bar.hide()
        seconds = time.perf_counter() - started
        transcript.stats = {
            "seconds": round(seconds, 3),
            "times_real_time": round(transcript.duration / seconds, 2),
        }
        self.deliver(transcript)

    @property
    def streams(self) -> bool:
        """Whether text goes to stdout as soon as it is there."""
        return self.form == "txt" and self.output is None

    def opened(self, source: str) -> Any:
        """What `read_audio` takes."""
        if source == MICROPHONE:
            from .mic import record

            return record(self.screen)
        if source != STDIN:
            return Path(source).expanduser()
        return read_piped_bytes("gemma4 transcribe - < talk.mp3")

    def print_line(self, text: str) -> None:
        self.screen.answer(f"{text}\n")

    def deliver(self, transcript: Transcript) -> None:
        """Writes or prints a finished transcript."""
        if not transcript.segments:
            self.screen.note(f"{transcript.file}: nothing was said.")
        target = self.targets.get(transcript.file)
        if target is not None:
            try:
                target.write_text(WRITERS[self.form](transcript), encoding="utf-8")
            except OSError as error:
                raise InputError(f"Cannot write {target}: {error.strerror}.") from None
            self.screen.note(f"Wrote {target}.")
        if self.screen.as_json or (self.form == "json" and target is None):
            self.screen.json(transcript.as_object())
        elif target is None and not self.streams:
            self.screen.answer(WRITERS[self.form](transcript))
