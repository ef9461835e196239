"""What `gemma4 batch` does: asks for the answers, and writes them in order."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..errors import InputError, concerns_all, exit_code, explain
from ..forms import refuse_invalid
from ..progress import Progress, clock
from ..render import Screen
from .answers import Answers
from .enveloped import enveloped, is_enveloped
from .lines import Line
from .request import FORMS, Defaults, names_of, read_request

if TYPE_CHECKING:
    from mlx_gemma4 import Chunk, Gemma4, Processor, Response

Problem = dict[str, Any]
TOLD = 5  # numbers of failed lines that are named
PACE = 60.0  # seconds between two notes where no progress is drawn


@dataclass
class Asked:
    """A line whose answer is waited for. names: what the answer is known by."""

    line: Line
    names: dict[str, Any]
    has_form: bool = False
    has_envelope: bool = False  # of OpenAI's batch files

    def read(self, defaults: Defaults) -> dict[str, Any]:
        """The options of `stream_generate`."""
        value, number = self.line.value(), self.line.number
        self.names, self.has_envelope = names_of(value, number), is_enveloped(value)
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
    written: int = 0  # answers of this run
    tokens: int = 0  # of the answers of this run
    failed: list[int] = field(default_factory=list)  # numbers of lines

    def begin(self) -> bool:
        """Goes on behind what is answered; whether anything is left to do."""
        self.lines = self.answers.left(self.lines, self.name)
        first = next(self.lines, None)
        before = self.answers.done
        if first is None:
            if not before:
                raise InputError(f"{self.name} is empty: it needs an object a line.")
            wrong = len(self.answers.codes)
            told = f", {wrong:,} of them with an error" if wrong else ""
            lines = f"All {before:,} lines are"
            if before == 1:
                told, lines = ", with an error" if wrong else "", "The line is"
            more = ": --retry asks again" if wrong else ""
            self.screen.note(f"{lines} answered already{told}{more}.")
            return False
        if self.answers.asks_again:
            self.screen.note("Asking again what failed.")
        elif before:
            self.screen.note(f"Going on behind {before:,} answers.")
        self.lines = chain([first], self.lines)
        return True

    def conclude(self, seconds: float) -> None:
        """Says what was done, also where it was stopped."""
        done, failed = self.written, len(self.failed)
        summary = {
            "answered": done - failed,
            "failed": failed,
            "answered_before": self.answers.done - done,
            "tokens": self.tokens,
            "seconds": round(seconds, 3),
        }
        if self.screen.as_json and self.answers.path is not None:
            self.screen.json({"output": str(self.answers.path), **summary})
            return
        lines = "line" if done - failed == 1 else "lines"
        told = f"{done - failed:,} {lines} answered, {self.tokens:,} tokens"
        self.screen.note(f"{told} in {clock(seconds)}.")
        if failed:
            numbers = ", ".join(map(str, self.failed[:TOLD]))
            numbers += f" and {failed - TOLD:,} more" if failed > TOLD else ""
            told = f"1 has an error (line {numbers}); its answer says why."
            if failed > 1:
                told = f"{failed:,} have an error (lines {numbers}); their answers say"
                told += " why."
            self.screen.note(told)

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
                    answer = self.answered(pending[0], chunks, name)
                    bar.hide()
                    self.answers.write(answer)
                    self.written += 1
                    bar.label = self.label
                    bar.update(pending.popleft().line.end)
                    if not self.screen.draws and time.perf_counter() - noted > PACE:
                        noted = time.perf_counter()
                        self.screen.note(f"{self.label}.")
        finally:
            self.conclude(time.perf_counter() - started)

    @property
    def label(self) -> str:
        return f"{self.name}: {self.answers.done:,} done"

    def answered(
        self, asked: Asked, chunks: "Iterator[Chunk]", model: str
    ) -> dict[str, Any]:
        """The line of the answers."""
        said, problem = self.answer(asked, chunks)
        shape = enveloped if asked.has_envelope else plain
        answer = shape(asked.names, said, model, problem)
        return {**answer, "key": self.answers.key(asked.line)}

    def answer(
        self, asked: Asked, chunks: "Iterator[Chunk]"
    ) -> "tuple[Response, Problem | None]":
        """What was said, and why that is no answer."""
        from mlx_gemma4 import Response

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
            return said, {"code": code, "message": message, "hint": hint}
        finally:
            self.tokens += len(said.tokens)
        return said, None


def plain(
    names: Mapping[str, Any], said: "Response", model: str, problem: Problem | None
) -> dict[str, Any]:
    """The answer to a line that has no envelope."""
    from ..chat.session import told

    text = told(said) if said.tokens or problem is None else {"text": None}
    error = {"error": problem} if problem else {}
    return {**names, **text, **error, "model": model}
