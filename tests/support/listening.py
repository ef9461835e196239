"""Runs `gemma4 transcribe` in this process, with a model that knows what is said."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile
from spoken import Talk
from typer.testing import CliRunner, Result

from mlx_gemma4 import Chunk
from mlx_gemma4.audio.files import RATE
from mlx_gemma4.cli.app import app
from mlx_gemma4.errors import MediaError


class Listener:
    """Stands in for a model and `in_order`: knows the talks by their samples."""

    def __init__(self) -> None:
        self.talks: list[Talk] = []
        self.asked: list[dict[str, Any]] = []
        self.translate = False
        self.finish_reason = "stop"
        self.patience: int | None = None  # pieces until Ctrl-C

    def talk(self, path: Path, seconds: float, seed: int = 0) -> Talk:
        talk = Talk(seconds, self.gap, 1e-3, seed)
        soundfile.write(path, talk.samples, RATE, subtype="FLOAT")
        self.talks.append(talk)
        return talk

    @staticmethod
    def gap(random: np.random.Generator) -> float:
        return random.uniform(0.05, 0.6)

    @staticmethod
    def hears(_: object, samples: np.ndarray, start: float) -> list[tuple[float, bool]]:
        """A voice in each of its chunks."""
        return [(start + at / RATE, True) for at in range(0, len(samples), 512)]

    def generate(self, model, processor, messages, **options: Any) -> SimpleNamespace:
        if self.patience == len(self.asked):
            raise KeyboardInterrupt
        (message,) = messages
        text, audio = message["content"]
        samples, rate = audio["audio"]
        self.asked.append({"prompt": text["text"], "n": len(samples), **options})
        assert (message["role"], audio["type"], rate) == ("user", "audio", RATE)
        if not self.talks:
            raise MediaError("deaf")
        said = self.find(samples)
        if self.translate:
            said = f"{said}\nGerman: auf {said}"
        return SimpleNamespace(text=said, finish_reason=self.finish_reason)

    def in_order(self, model, processor, asked, rows: int) -> Iterator[Iterator[Chunk]]:
        def chunks(ask: Callable[[], dict[str, Any]]) -> Iterator[Chunk]:
            said = self.generate(model, processor, **ask())
            yield Chunk(said.text, 1, finish_reason=said.finish_reason)

        return map(chunks, asked)

    def find(self, samples: np.ndarray) -> str:
        for talk in self.talks:
            for start in np.flatnonzero(talk.samples == samples[0]):
                part = talk.samples[start : start + len(samples)]
                if np.array_equal(part, samples):
                    begin = start / RATE
                    return talk.heard(begin, begin + len(samples) / RATE)
        raise AssertionError("a piece of no talk")


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["transcribe", *arguments, "-m", "m"], input=stdin)
