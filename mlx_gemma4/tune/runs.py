"""The folder of a run: the adapter, what is needed to go on, the log and its curve."""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..errors import DataError, DiskFullError, TakenError
from ..model import Gemma4
from ..reading.home import with_home
from ..reading.json_file import read_object
from ..state import FULL, disk_full, save_text
from .adapter_files import CONFIG, check_adapter, load_tensors
from .adapters import Adapter
from .curve import draw_curve
from .errors import AdapterError
from .examples import Example
from .folders import (
    Hold,
    check_folder,
    finish_saving,
    make_folder,
    together,
    write_tensors,
)
from .formats import write_adapter
from .optimizer import State
from .settings import Settings
from .sources import Source

RESUME, LOG, CURVE = "resume.safetensors", "log.jsonl", "loss.png"
EARLIER = "log.old.jsonl"  # of a run that ended before it saved anything
BASE = "model_weights"  # in an adapter's configuration, and in the state of its run
PARTS = {"parameters": "p", "first": "m", "second": "v"}


def fingerprint(settings: Settings, examples: Sequence[Example]) -> str:
    """A digest of what decides what a run computes, beside the weights of its base.

    Media count by the content of their files, wherever those lie.
    """
    contents: dict[Source, str] = {}
    digest = hashlib.sha256(json.dumps(settings.as_dict(), sort_keys=True).encode())
    for example in examples:
        digest.update(repr((example.tokens, example.learned)).encode())
        for medium in example.record.media:
            if medium not in contents:
                contents[medium] = content_of(medium)
            digest.update(contents[medium].encode())
    return digest.hexdigest()


def content_of(medium: Source) -> str:
    """A digest of a file. Raises DataError where it cannot be read."""
    if isinstance(medium, bytes):
        return hashlib.sha256(medium).hexdigest()
    try:
        with open(medium, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{medium} cannot be read: {error.strerror}.") from None


@dataclass
class Run:
    """A run in `folder`; `about` goes into the adapter's configuration.

    weights: a digest of those of its base, by which an adapter and a run know it.
    """

    folder: Path
    mark: str
    about: dict[str, Any]
    weights: str = ""

    def __post_init__(self) -> None:
        finish_saving(self.folder)  # of an earlier process

    @property
    def started(self) -> bool:
        return (self.folder / RESUME).is_file()

    def check_free(self) -> None:
        """Raises TakenError where another run's adapter lies, AdapterError where no
        folder can be."""
        check_folder(self.folder)
        if (self.folder / CONFIG).exists() or self.started:
            raise TakenError(
                f"{self.folder} holds an adapter already: go on with it (--resume), or "
                "name another folder."
            )

    def begin(self, hold: Hold | None = None) -> None:
        """Make the folder, with a log of its own, and hold it.

        Raises as check_free, and BusyError where another run has it.
        """
        self.check_free()
        make_folder(self.folder)
        if hold is not None:
            hold.take()
            self.check_free()  # another may have come and gone
        if (self.folder / LOG).exists():
            os.replace(self.folder / LOG, self.folder / EARLIER)

    def save(self, model: Gemma4, adapter: Adapter, state: State) -> None:
        """Write the adapter, its configuration and the state: all of them, or none."""
        about = {**self.about, BASE: self.weights, "step": state.step}
        tensors = {
            f"{letter}/{name}": array
            for part, letter in PARTS.items()
            for name, array in getattr(state, part).items()
        }
        metadata = {
            "step": str(state.step),
            "updates": str(state.updates),
            "mark": self.mark,
            BASE: self.weights,
        }
        with together(self.folder) as folder:
            write_adapter(folder, model, adapter, about)
            write_tensors(folder / RESUME, tensors, metadata)

    def load(self) -> State:
        """The saved state. Raises AdapterError if it is not of this very run."""
        file = self.folder / RESUME
        if not file.is_file():
            raise AdapterError(f"{self.folder} holds no run to resume.")
        tensors = load_tensors(file)
        mx.eval(tensors)  # before the file is written anew
        found: Any = mx.load(str(file), format="safetensors", return_metadata=True)
        stated: dict[str, str] = found[1]
        if stated.get(BASE, self.weights) != self.weights:
            raise AdapterError(
                f"{self.folder} is of a run with another model: "
                f"{self.about.get('model')} has other weights than it was started "
                "with. Name its model, or a new folder."
            )
        if stated.get("mark") != self.mark:
            raise AdapterError(
                f"{self.folder} is of a run with other data or settings. Repeat the "
                "options it was started with, or name a new folder."
            )
        parts = {
            part: {
                name.removeprefix(f"{letter}/"): array
                for name, array in tensors.items()
                if name.startswith(f"{letter}/")
            }
            for part, letter in PARTS.items()
        }
        return State(int(stated["step"]), updates=int(stated["updates"]), **parts)

    def log(self, values: dict[str, Any]) -> None:
        """Add a line to log.jsonl. What is no number is null, as JSON has no NaN."""
        values = {k: None if _no_number(v) else v for k, v in values.items()}
        file = self.folder / LOG
        try:
            with file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(values) + "\n")
        except OSError as error:
            if error.errno in FULL:
                raise DiskFullError(disk_full(file)) from None
            raise

    def lines(self) -> Iterator[dict[str, Any]]:
        """All whole lines; a run that was killed may have left half of its last."""
        if (self.folder / LOG).is_file():
            for line in (self.folder / LOG).read_bytes().split(b"\n"):
                try:
                    yield json.loads(line)
                except ValueError:
                    continue

    def forget_after(self, step: int, validated: bool = False) -> None:
        """Drop lines of what a resumed run will do again: from step 0 on, everything,
        the validation of the model alone included.

        validated: the validation behind `step` is done again, too.
        """
        again = ("validation", step) if validated else None
        kept = [
            json.dumps(line)
            for line in (self.lines() if step else ())
            if line["step"] <= step and (line["kind"], line["step"]) != again
        ]
        text = "".join(f"{line}\n" for line in kept)
        save_text(self.folder / LOG, text)

    def draw(self) -> Path:
        """Draw loss.png from the log."""
        train: list[tuple[float, float]] = []
        validation: list[tuple[float, float]] = []
        for line in self.lines():
            if (loss := line.get("loss")) is not None:
                kind = validation if line["kind"] == "validation" else train
                kind.append((line["step"], loss))
        draw_curve(self.folder / CURVE, train, validation)
        return self.folder / CURVE


def _no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def base_weights(folder: Path) -> str | None:
    """The digest of the weights that an adapter was made for, if it states one."""
    stated = read_object(with_home(folder) / CONFIG).get(BASE)
    return stated if isinstance(stated, str) and stated else None


def base_model(folder: Path) -> str | None:
    """The model that an adapter's configuration names. Raises AdapterError."""
    folder = with_home(folder)
    check_adapter(folder)
    config = read_object(folder / CONFIG)
    name = config.get("model") or config.get("base_model_name_or_path")
    return name if isinstance(name, str) else None
