"""What is printed where: answers to stdout, everything else to stderr.

Answers are streamed as plain text. stderr is coloured on a terminal only, and not
when NO_COLOR is set or TERM is dumb.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from mlx_gemma4.reading.sizes import size

if TYPE_CHECKING:
    from mlx_gemma4.chat.calls import ToolCall
    from mlx_gemma4.generation.loop import Stats

DIM = "\x1b[2m"
RESET = "\x1b[0m"
ERASE_LINE = "\r\x1b[K"

# Control characters of a model's answer could move the cursor or retitle the
# window, and so could a checkpoint's names in notes and errors. C0 and C1 but for
# newline and tab are dropped: always beside the answer, in it on a terminal.
CONTROLS: dict[int, None] = {
    c: None for c in (*range(32), *range(127, 160)) if chr(c) not in "\n\t"
}


def coloured(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether escape sequences may be written to `stream`."""
    if environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return False
    if environ.get("FORCE_COLOR", "0") != "0":
        return True
    return stream.isatty()


def stats_line(stats: "Stats") -> str:
    """`412 tok · 61.3 tok/s · ttft 0.31 s · prefill 1,240 tok/s · peak 4.7 GB`."""
    cached = f" ({stats.cached_tokens:,} cached)" if stats.cached_tokens else ""
    return " · ".join(
        (
            f"{stats.completion_tokens:,} tok",
            f"{stats.decode_tps:.1f} tok/s",
            f"ttft {stats.time_to_first_token:.2f} s",
            f"prefill {stats.prefill_tps:,.0f} tok/s{cached}",
            f"peak {size(stats.peak_memory)}",
        )
    )


def printable(text: str) -> str:
    """`text` without control characters."""
    return text.translate(CONTROLS)


def json_text(
    value: Mapping[str, object], encoding: str = "utf-8", indent: int | None = None
) -> str:
    """`value` as JSON; escaped where `encoding` lacks a character, or half of one that
    a file's name may hold."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def json_line(value: Mapping[str, object], stream: TextIO) -> str:
    """`value` as JSON; escaped where `stream` cannot take or show it as it is."""
    text = json_text(value, stream.encoding or "utf-8")
    return text if text == printable(text) else json.dumps(value)


class Screen:
    """One command's output. Text arrives in pieces and is shown at once."""

    def __init__(
        self, show_thinking: bool | None = None, as_json: bool = False
    ) -> None:
        self.as_json = as_json
        self.colour = coloured(sys.stderr, os.environ)
        self._passing = self.colour and sys.stderr.isatty()
        terminal = sys.stdout.isatty() and sys.stderr.isatty()
        self.show_thinking = terminal if show_thinking is None else show_thinking
        self._open: TextIO | None = None  # the stream with an unfinished line
        self._thinking = False
        self.lost: OSError | None = None  # why nothing more can be written

    def answer(self, text: str) -> None:
        self._end_thought()
        self._write(sys.stdout, text)

    def thought(self, text: str) -> None:
        if not self.show_thinking:
            return
        if not self._thinking and self.colour:
            sys.stderr.write(DIM)
        self._thinking = True
        self._write(sys.stderr, text)

    def tool_call(self, call: "ToolCall") -> None:
        self.end()
        line = {"name": call.name, "arguments": call.arguments}
        self._write(sys.stdout, json_line(line, sys.stdout) + "\n")

    def end(self) -> None:
        """Closes an unfinished line, so that what follows starts a new one."""
        self._end_thought()
        if self._open is not None:
            self._write(self._open, "\n")

    def json(self, value: Mapping[str, object]) -> None:
        """One JSON object on one line of stdout."""
        self._write(sys.stdout, json_line(value, sys.stdout) + "\n")

    def note(self, text: str) -> None:
        """A line beside the answer, on stderr."""
        self.end()
        if self.as_json:
            line = json_line({"note": text}, sys.stderr)
        else:
            text = printable(text)
            line = f"{DIM}{text}{RESET}" if self.colour else text
        print(line, file=sys.stderr, flush=True)

    def gap(self) -> None:
        """A blank line, on a terminal only."""
        self.end()
        if self._passing and not self.as_json:
            print(file=sys.stderr, flush=True)

    @property
    def draws(self) -> bool:
        """Whether progress is drawn."""
        return self._passing and not self.as_json

    def passing(self, text: str) -> None:
        """A line on stderr that `passed` takes away again; only on a terminal.

        It is cut to one row: what went on in a second one would stay.
        """
        if self._passing:
            room = shutil.get_terminal_size().columns - 1
            row = printable(text)
            row = row if len(row) <= room else row[: room - 1] + "…"
            print(f"{DIM}{row}{RESET}", end="", file=sys.stderr, flush=True)

    def passed(self) -> None:
        if self._passing:
            print(ERASE_LINE, end="", file=sys.stderr, flush=True)

    def _end_thought(self) -> None:
        if not self._thinking:
            return
        self._thinking = False
        if self._open is not None:
            self._write(sys.stderr, "\n")
        if self.colour:
            sys.stderr.write(RESET)
            sys.stderr.flush()

    def _write(self, stream: TextIO, text: str) -> None:
        if not text:
            return
        if stream.isatty():
            text = printable(text)
        # First, since Ctrl-C may come as soon as the text is out.
        self._open = None if text.endswith("\n") else stream
        try:
            stream.write(text)
            stream.flush()
        except OSError as error:
            self.lost = error
            raise
