"""What is printed where: answers to stdout, everything else to stderr.

Off a terminal answers are streamed as they are. On one they are rendered as Markdown,
or broken between words at least; nothing is coloured when NO_COLOR is set or TERM is
dumb.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mlx_gemma4.reading.sizes import size

from .terminal.text import cut, printable
from .terminal.wrap import Flow, window, wrapped

if TYPE_CHECKING:
    from mlx_gemma4.chat.calls import ToolCall
    from mlx_gemma4.generation.loop import Stats

    from .terminal.markdown import Markdown

DIM = "\x1b[2m"
RESET = "\x1b[0m"
ERASE_LINE = "\r\x1b[K"


def coloured(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether escape sequences may be written to `stream`."""
    if environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return False
    if environ.get("FORCE_COLOR", "0") != "0":
        return True
    return stream.isatty()


def can_render(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that shows styles and every character."""
    unicode = (stream.encoding or "").lower().startswith("utf")
    return unicode and stream.isatty() and coloured(stream, os.environ)


def stats_line(stats: "Stats") -> str:
    """`412 tok · 61.3 tok/s · ttft 0.31 s · prefill 1,240 tok/s · peak 4.7 GB`."""
    cached = f" ({stats.cached_tokens:,} cached)" if stats.cached_tokens else ""
    drafts = (drafts_told(stats),) if stats.drafted else ()
    packed = (f"{stats.kv_bits}-bit context",) if stats.kv_bits else ()
    return " · ".join(
        (
            f"{stats.completion_tokens:,} tok",
            f"{stats.decode_tps:.1f} tok/s",
            f"ttft {stats.time_to_first_token:.2f} s",
            f"prefill {stats.prefill_tps:,.0f} tok/s{cached}",
            f"peak {size(stats.peak_memory)}",
            *drafts,
            *packed,
        )
    )


def drafts_told(stats: "Stats") -> str:
    """`41 of 60 drafts right, 0.8 s gained`; the time where it is known and shows."""
    told = f"{stats.accepted:,} of {stats.drafted:,} drafts right"
    gain = round(stats.draft_gain or 0, 1)
    if not gain:
        return told
    return f"{told}, {abs(gain)} s {'gained' if gain > 0 else 'lost'}"


def fitted(text: str, stream: TextIO) -> str:
    """A message as `stream` takes it: on a terminal broken between words."""
    text = printable(text)
    return wrapped(text, window(stream).columns) if stream.isatty() else text


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
    """One command's output. Text arrives in pieces and is shown at once.

    markdown: answers are rendered, where they go to a terminal that shows colours.
    previews: pictures are shown, where they can be; None does not tell if they cannot.
    """

    def __init__(
        self,
        show_thinking: bool | None = None,
        as_json: bool = False,
        markdown: bool = False,
        previews: bool | None = None,
    ) -> None:
        self.as_json = as_json
        self.colour = coloured(sys.stderr, os.environ)
        self._passing = self.colour and sys.stderr.isatty()
        terminal = sys.stdout.isatty() and sys.stderr.isatty()
        self.show_thinking = terminal if show_thinking is None else show_thinking
        self._renders = markdown and can_render(sys.stdout)
        self._rendered: Markdown | None = None  # the answer, while it is shown
        self._previews = previews
        self._flow = Flow()
        self._open: TextIO | None = None  # the stream with an unfinished line
        self._thinking = False
        self.lost: OSError | None = None  # why nothing more can be written

    def answer(self, text: str) -> None:
        self._end_thought()
        if not self._renders:
            self._write(sys.stdout, text)
        elif text:
            self._open = sys.stdout
            if self._rendered is None:
                self._rendered = self._open_markdown()
            self._rendered.take(text)

    def plain(self, text: str) -> None:
        """What belongs to the answer and is no Markdown."""
        self._end_thought()
        self._write(sys.stdout, text)

    def thought(self, text: str) -> None:
        if not self.show_thinking:
            return
        if not self._thinking:
            if self._open is sys.stdout and sys.stdout.isatty():
                self.end()
            if self.colour:
                sys.stderr.write(DIM)
        self._thinking = True
        self._write(sys.stderr, text)

    def tool_call(self, call: "ToolCall") -> None:
        self.end()
        self.json({"name": call.name, "arguments": call.arguments})

    def end(self) -> None:
        """Closes an unfinished line, so that what follows starts a new one."""
        self._end_thought()
        rendered, self._rendered = self._rendered, None
        if rendered is not None:
            self._open = None
            rendered.end()
        elif self._open is not None:
            self._write(self._open, "\n")

    def resumed(self) -> None:
        """After something else was written to the terminal while an answer came."""
        if self._rendered is not None:
            self._rendered.anew()

    def json(self, value: Mapping[str, object]) -> None:
        """One JSON object on one line of stdout."""
        self._put(sys.stdout, json_line(value, sys.stdout) + "\n")

    def note(self, text: str) -> None:
        """A line beside the answer, on stderr."""
        self.end()
        if self.as_json:
            line = json_line({"note": text}, sys.stderr)
        else:
            text = fitted(text, sys.stderr)
            line = f"{DIM}{text}{RESET}" if self.colour else text
        print(line, file=sys.stderr, flush=True)

    def gap(self) -> None:
        """A blank line, on a terminal."""
        if sys.stderr.isatty() and not self.as_json:
            self.end()
            print(file=sys.stderr, flush=True)

    def preview(self, path: Path) -> None:
        """Shows a picture that was attached, in a terminal that can."""
        if not self.draws or self._previews is False:
            return
        from .terminal.preview import preview

        if not preview(path, sys.stderr) and self._previews:
            self._previews = None
            self.note(
                "No picture can be shown here: kitty, Ghostty, Konsole, iTerm2 and "
                "WezTerm can, outside of tmux and screen."
            )

    @property
    def draws(self) -> bool:
        """Whether progress is drawn."""
        return self._passing and not self.as_json

    def passing(self, text: str) -> None:
        """A line on stderr that `passed` takes away again; only on a terminal.

        It is cut to one row: what went on in a second one would stay.
        """
        if self._passing:
            row = cut(printable(text), window(sys.stderr).columns - 1)
            print(f"{DIM}{row}{RESET}", end="", file=sys.stderr, flush=True)

    def passed(self) -> None:
        if self._passing and self._open is None:
            print(ERASE_LINE, end="", file=sys.stderr, flush=True)

    def _open_markdown(self) -> "Markdown":
        from .terminal.live import Live
        from .terminal.markdown import Markdown

        stdout = sys.stdout
        return Markdown(Live(stdout, lambda text: self._put(stdout, text)))

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
        # First, since Ctrl-C may come as soon as the text is out.
        self._open = None if text.endswith("\n") else stream
        if stream.isatty():
            text = self._flow.take(printable(text), window(stream).columns)
        self._put(stream, text)

    def _put(self, stream: TextIO, text: str) -> None:
        try:
            stream.write(text)
            stream.flush()
        except OSError as error:
            self.lost = error
            raise
