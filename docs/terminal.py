"""Draws docs/terminal.svg: what a shell and `gemma4` really show, on a pseudo-terminal.

    pip install pyte
    python docs/terminal.py

from the clone's root, with `gemma4` on the PATH. The demo model answers.
"""

import os
import pty
import re
import select
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

COLUMNS, ROWS = 84, 30
READY = re.compile(r"^(\$|>) ?$")  # the cursor's row, when a line can be typed
QUIET = 1.0  # seconds in which nothing was written
LINES = (
    "gemma4 chat -m demo",
    "./assets/shapes.png Describe this image.",
    "My name is Anna.",
    "What is my name?",
    "/bye",
    "gemma4 transcribe -m demo assets/speech.wav --format srt",
)
TARGET = Path(__file__).with_name("terminal.svg")


class Screen(pyte.Screen):
    """Answers what a program asks its terminal."""

    def __init__(self, master: int) -> None:
        super().__init__(COLUMNS, ROWS)
        self.master = master

    def write_process_input(self, data: str) -> None:
        os.write(self.master, data.encode())

    def rows(self) -> list[str]:
        rows = [row.rstrip() for row in self.display]
        while rows and not rows[-1]:
            rows.pop()
        return rows


def shell(home: str) -> int:
    """A shell with an empty home; the other end of its terminal."""
    child, master = pty.fork()
    if child == 0:
        kept = {
            name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ
        }
        environ = {**kept, "HOME": home, "TERM": "xterm-256color", "PS1": "$ "}
        environ |= {"COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
        environ["GEMMA4_LOG"] = "0"  # the first note would name a passing folder
        os.execvpe("sh", ["sh"], environ)
    return master


def settle(master: int, screen: Screen, stream: pyte.ByteStream) -> None:
    """Until a line can be typed. Raises SystemExit after a minute."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        while select.select([master], [], [], QUIET)[0]:
            # What is dim is grey: pyte knows colours only.
            stream.feed(os.read(master, 65536).replace(b"\x1b[2m", b"\x1b[90m"))
        if READY.match(screen.display[screen.cursor.y].rstrip()):
            return
    sys.exit("No prompt came. The screen:\n" + "\n".join(screen.rows()))


def drawn(screen: Screen) -> Text:
    """The screen with its colours."""
    text = Text()
    for number, row in enumerate(screen.rows()):
        cells = (screen.buffer[number][column] for column in range(len(row)))
        for style, run in groupby(cells, style_of):
            text.append("".join(cell.data for cell in run), style)
        text.append("\n")
    return text


def style_of(cell: pyte.screens.Char) -> Style:
    colour = None if cell.fg == "default" else cell.fg
    if colour is not None and re.fullmatch("[0-9a-f]{6}", colour):
        colour = f"#{colour}"
    if colour is not None:
        colour = colour.replace("brown", "yellow").replace("bright", "bright_")
    return Style(
        color=colour, bold=cell.bold, italic=cell.italics, reverse=cell.reverse
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        master = shell(home)
        screen = Screen(master)
        stream = pyte.ByteStream(screen)
        settle(master, screen, stream)
        for line in LINES:
            os.write(master, line.encode() + b"\r")
            settle(master, screen, stream)
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))
    console.print(drawn(screen), end="")
    svg = console.export_svg(title="gemma4", unique_id="terminal")
    # Fonts from elsewhere are not fetched: any monospaced one does.
    TARGET.write_text(
        re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL), "utf-8"
    )
    print("\n".join(screen.rows()))


if __name__ == "__main__":
    main()
