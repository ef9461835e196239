"""The clipboard, of this machine or of the terminal that this one is used from."""

import base64
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from shutil import which

from ..errors import UsageError

PATIENCE = 5  # seconds for a program that should take none


def put_on_clipboard(text: str) -> str:
    """Copies `text`; returns what took it. Raises UsageError where nothing does."""
    for command in programs(os.environ):
        if which(command[0]) is not None and taken_by(command, text):
            return command[0]
    if sys.stdout.isatty() and os.environ.get("TERM") not in (None, "", "dumb"):
        sys.stdout.write(as_sequence(text))
        sys.stdout.flush()
        return "the terminal, if it allows that"
    raise UsageError(
        "There is no clipboard here: pbcopy, wl-copy and xclip are missing."
    )


def programs(environ: Mapping[str, str]) -> Iterator[list[str]]:
    """The commands that would reach a clipboard that the user sees."""
    if environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"):
        return  # theirs is another machine's
    if sys.platform == "darwin":
        yield ["pbcopy"]
    if environ.get("WAYLAND_DISPLAY"):
        yield ["wl-copy"]
    if environ.get("DISPLAY"):
        yield ["xclip", "-selection", "clipboard"]


def taken_by(command: list[str], text: str) -> bool:
    # Nothing is captured: xclip goes on in the background with the streams it has.
    quiet = subprocess.DEVNULL
    try:
        done = subprocess.run(
            command, input=text.encode(), stdout=quiet, stderr=quiet, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def as_sequence(text: str) -> str:
    """What terminals copy: OSC 52. They take it over ssh, too."""
    return f"\x1b]52;c;{base64.b64encode(text.encode()).decode()}\x07"
