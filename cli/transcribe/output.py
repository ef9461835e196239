"""Where transcripts go: to stdout, or to a file each."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from mlx_gemma4.errors import DiskFullError
from mlx_gemma4.state import save_text

from ..errors import InputError, UsageError, refuse_existing, unread, unwritable
from ..files import STDIN
from ..progress import clock
from ..render import Screen
from .transcript import WRITERS, Transcript


@dataclass
class TranscriptOutput:
    """form: one of WRITERS. output: the folder for files; None for stdout.
    overwrite: replace files that are there."""

    form: str
    output: Path | None
    screen: Screen
    overwrite: bool = False
    targets: dict[str, Path] = field(default_factory=dict)

    @property
    def streams(self) -> bool:
        """Whether text goes to stdout as soon as it is there."""
        return self.form == "txt" and self.output is None

    def check(self, sources: list[str]) -> None:
        """Finds what cannot work. Raises UsageError or InputError."""
        as_json = self.screen.as_json
        if self.output is None:
            if as_json and self.form != "json":
                raise UsageError(
                    f"--json prints JSON; for {self.form} files as well add -o DIR."
                )
            if len(sources) > 1 and self.form in ("srt", "vtt"):
                raise UsageError(
                    f"Several recordings as {self.form} need a folder: add -o DIR."
                )
            return
        for source in sources:
            stem = "stdin" if source == STDIN else Path(source).stem
            target = self.output / f"{stem}.{self.form}"
            for other, taken in self.targets.items():
                if taken == target:
                    raise UsageError(
                        f"{other} and {source} would both be written to {target}."
                    )
            if not self.overwrite:
                refuse_existing(target)
            self.targets[source] = target
        try:
            self.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"Cannot write to {self.output}: {error.strerror}.") from (
                None
            )
        if not os.access(self.output, os.W_OK):  # now, not after an hour of work
            raise InputError(f"Cannot write to {self.output}: Permission denied.")

    def deliver(self, transcript: Transcript) -> None:
        """Writes or prints a finished transcript."""
        if not transcript.segments:
            self.screen.note(f"{transcript.file}: nothing was said.")
        target = self.targets.get(transcript.file)
        if target is not None:
            self.write(transcript, target)
            self.screen.note(f"Wrote {target}.")
        if target is None:
            self.print(transcript)
        elif self.screen.as_json:
            with unread():
                self.print(transcript)

    def keep_part(self, transcript: Transcript) -> None:
        """What was heard until Ctrl-C or a fault, under a name that is not the whole's.

        Raises nothing: where it cannot be written, what stopped it is still told.
        """
        if self.streams or not transcript.segments:
            return
        heard, whole = transcript.segments[-1].end, transcript.duration
        part = f"{clock(heard)} of {clock(whole)}"
        target = self.targets.get(transcript.file)
        if target is None:
            with unread():
                self.print(transcript)
            self.screen.note(f"Printed {part}.")
            return
        target = target.with_stem(f"{target.stem}.partial")
        if target in self.targets.values():
            self.screen.note(f"{target} is another recording's: {part} is not kept.")
            return
        try:
            self.write(transcript, target)
            self.screen.note(f"Wrote {part} to {target}.")
        except (InputError, DiskFullError) as error:
            self.screen.note(str(error))

    def write(self, transcript: Transcript, target: Path) -> None:
        try:
            save_text(target, WRITERS[self.form](transcript))
        except OSError as error:
            raise unwritable(target, error) from None

    def print(self, transcript: Transcript) -> None:
        if self.screen.as_json or self.form == "json":
            self.screen.json(transcript.as_object())
        elif not self.streams:
            self.screen.answer(WRITERS[self.form](transcript))
