"""What `gemma4 batch` does: asks for the answers, and writes them in order."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..errors import InputError, concerns_all, exit_code, explain
from ..forms import refuse_invalid
from ..progress import Progress, clock
from ..render import Screen
from .answers import Answers
from .lines import Line
from .request import FORMS, Defaults, names_of, read_request

if TYPE_CHECKING:
    from mlx_gemma4 import Chunk, Gemma4, Processor

Answer = dict[str, Any]
TOLD = 5  # numbers of failed lines that are named
PACE = 60.0  # seconds between two notes where no progress is drawn


@dataclass
class Asked:
    """A line whose answer is waited for. names: what the answer is known by."""

    line: Line
    names: dict[str, Any]
    has_form: bool = False

    def read(self, defaults: Defaults) -> dict[str, Any]:
        """The options of `stream_generate`."""
        value, number = self.line.value(), self.line.number
        self.names = names_of(value, number)
        request = read_request(value, number, defaults)
        self.has_form = any(request.get(name) is not None for name in FORMS)
        return request


@dataclass
class Job:
    """Questions, and what is wanted of them. bytes: of the file, 0 where unknown."""

    name: str
    lines: Iterator[Line]
    bytes: int
    answers: Answers
    defaults: Defaults
    screen: Screen
    rows: int
    before: int = 0  # answers of earlier runs
    tokens: int = 0  # of the answers of this run
    failed: list[int] = field(default_factory=list)  # numbers of lines

    def begin(self) -> bool:
        """Goes on behind what is answered; whether anything is left to do."""
        self.answers.go_on(self.lines, self.name)
        self.before = self.answers.done
        first = next(self.lines, None)
        if first is None:
            if not self.before:
                raise InputError(f"{self.name} is empty: it needs an object a line.")
            wrong = len(self.answers.codes)
            told = f", {wrong:,} of them with an error" if wrong else ""
            if self.before == 1:
                told = ", with an error" if wrong else ""
                self.screen.note(f"The line is answered already{told}.")
            else:
                lines = f"All {self.before:,} lines"
                self.screen.note(f"{lines} are answered already{told}.")
            return False
        if self.before:
            self.screen.note(f"Going on behind {self.before:,} answers.")
        self.lines = chain([first], self.lines)
        return True

    def conclude(self, seconds: float) -> None:
        """Says what was done, also where it was stopped."""
        done = self.answers.done - self.before
        summary = {
            "answered": done - len(self.failed),
            "failed": len(self.failed),
            "answered_before": self.before,
            "tokens": self.tokens,
            "seconds": round(seconds, 3),
        }
        if self.screen.as_json and self.answers.path is not None:
            self.screen.json({"output": str(self.answers.path), **summary})
            return
        lines = "line" if done == 1 else "lines"
        told = f"{done:,} {lines} answered, {self.tokens:,} tokens"
        self.screen.note(f"{told} in {clock(seconds)}.")
        if self.failed:
            numbers = ", ".join(map(str, self.failed[:TOLD]))
            more = len(self.failed) - TOLD
            numbers += f" and {more:,} more" if more > 0 else ""
            one = len(self.failed) == 1
            told = f"{len(self.failed):,} of them failed ({'line' if one else 'lines'} "
            why = "its answer says why" if one else "their answers say why"
            self.screen.note(f"{told}{numbers}); {why}.")

    def run(self, model: "Gemma4", processor: "Processor", name: str) -> None:
        from mlx_gemma4.decoding.prefixes import PrefixCaches
        from mlx_gemma4.generation.ordered import in_order

        # What lines begin with in common, such as the system's words, is read once.
        options = self.defaults.options
        options["prefix"] = PrefixCaches(model, kv_bits=options["kv_bits"])
        pending: deque[Asked] = deque()

        def asked() -> Iterator[Callable[[], dict[str, Any]]]:
            for line in self.lines:
                pending.append(Asked(line, {"id": line.number}))
                yield partial(pending[-1].read, self.defaults)

        started = noted = time.perf_counter()
        try:
            with Progress(self.screen, self.label, self.bytes) as bar:
                for chunks in in_order(model, processor, asked(), self.rows):
                    bar.hide()
                    self.write(pending[0], chunks, name)
                    bar.label = self.label
                    bar.update(pending.popleft().line.end)
                    if not self.screen.draws and time.perf_counter() - noted > PACE:
                        noted = time.perf_counter()
                        self.screen.note(f"{self.label}.")
        finally:
            self.conclude(time.perf_counter() - started)

    @property
    def label(self) -> str:
        return f"{self.name}: {self.answers.done:,} answered"

    def write(self, asked: Asked, chunks: "Iterator[Chunk]", model: str) -> None:
        answer = self.answer(asked, chunks)
        key = {"model": model, "key": self.answers.key(asked.line)}
        self.answers.write({**asked.names, **answer, **key})

    def answer(self, asked: Asked, chunks: "Iterator[Chunk]") -> Answer:
        """What is written of an answer, or why there is none."""
        from mlx_gemma4 import Response

        from ..chat.session import told

        said = Response()
        try:
            for chunk in chunks:
                said.add(chunk)
            if asked.has_form:
                refuse_invalid(said)
        except Exception as error:
            if concerns_all(error):
                raise
            self.failed.append(asked.line.number)
            code = exit_code(error)
            message, hint = explain(error, code)
            problem = {"code": code, "message": message, "hint": hint}
            text = told(said) if said.tokens else {"text": None}
            return {**text, "error": problem}
        finally:
            self.tokens += len(said.tokens)
        return told(said)
