"""Runs `gemma4` as its users do: as a process, through its entry point.

`Runner` from an empty folder, with pipes; `Terminal` on a pseudo-terminal.
"""

import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-m", "mlx_gemma4.cli.main"]
QUESTION = "What is the capital of France?"
GREEDY = ("--temperature", "0")
# Hot enough to be noise: an answer that goes on until something stops it.
ENDLESS = ("--temperature", "1000", "--top-p", "1", "--top-k", "0", "--seed", "1")
ESCAPE = "\x1b"


class Runner:
    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.folder = folder
        self.environ = environ

    def start(
        self,
        *arguments: str,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        own_session: bool = False,
    ) -> subprocess.Popen[bytes]:
        # Where the tests run in the background, Ctrl-C is ignored and stays so in
        # every process started from here, unless it is not while starting it.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return subprocess.Popen(
                [*COMMAND, *arguments],
                cwd=self.folder,
                env=self.environ,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=own_session,
            )
        finally:
            signal.signal(signal.SIGINT, before)

    def unread(self, *arguments: str) -> int:
        """The exit code where nobody reads stdout any more."""
        reader, writer = os.pipe()
        os.close(reader)
        process = self.start(*arguments, stdout=writer)
        os.close(writer)
        process.communicate(timeout=120)
        return process.returncode

    def __call__(
        self, *arguments: str, stdin: str | bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        process = self.start(
            *arguments,
            stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
        )
        out, err = process.communicate(data, timeout=600)
        return subprocess.CompletedProcess(
            process.args, process.returncode, out.decode(), err.decode()
        )


class Terminal:
    """The command on a pseudo-terminal; `screen` is all it has written."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self.master = master
        self.screen = ""

    @property
    def text(self) -> str:
        """The screen without escape sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x08", "", self.screen)

    def wait_for(self, pattern: str) -> None:
        while not re.search(pattern, self.text):
            assert self._read(), f"{pattern!r} is not in {self.text!r}"

    def wait_for_answer(self) -> None:
        """Until something is printed after the prompt has been closed."""
        begun = r"\x1b\[\?2004l(\x1b\[[0-9;?]*[A-Za-z]|\s)*[^\s\x1b]"
        while not re.search(begun, self.screen):
            assert self._read(), f"no answer in {self.screen!r}"

    def type(self, keys: str) -> None:
        self.screen = ""
        os.write(self.master, keys.encode())

    def finish(self) -> int:
        while self._read():
            pass
        return self.process.wait(60)

    def _read(self) -> bool:
        ready, _, _ = select.select([self.master], [], [], 30)
        try:
            data = os.read(self.master, 65536) if ready else b""
        except OSError:  # Linux reports the other side's end this way
            data = b""
        if "\x1b[6n" in data.decode(errors="replace"):
            os.write(self.master, b"\x1b[1;1R")  # where the cursor is
        self.screen += data.decode(errors="replace")
        return bool(data)
