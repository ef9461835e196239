"""A contender in a process of its own, that answers in lines of JSON.

What runs in the process is in child.py.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import PeerError

LAST = 2000  # characters of what a process said that an error's notes keep
# Of Python. Modules of the current folder, which may be anybody's, are not found.
RUN = """
import runpy, sys
sys.path.append(sys.argv.pop(1))
runpy.run_module(sys.argv.pop(1), run_name="__main__")
"""


def running(module: str, *arguments: str) -> list[str]:
    """The command for a module of this package, also of one that is not installed."""
    place = str(Path(__file__).resolve().parents[2])
    return [sys.executable, "-P", "-c", RUN, place, module, *arguments]


class Worker:
    """A process; ends with the context it manages.

    ready: its first answer.

    Raises PeerError, with what the process said last, where it ends before it answers.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
    ):
        self.name = name
        self._log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )
        try:
            self.ready: Any = self._reply()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, method: str, *arguments: Any) -> Any:
        """What `method` of the object that the process serves returns, as JSON."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # then there is no reply either
            self.process.stdin.write(json.dumps([method, *arguments]) + "\n")
            self.process.stdin.flush()
        return self._reply()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self._log):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _reply(self) -> Any:
        assert self.process.stdout is not None
        if line := self.process.stdout.readline():
            return json.loads(line)
        self.process.wait()
        self._log.seek(0)
        said = self._log.read().strip() or "(nothing)"
        last = said.splitlines()[-1]
        error = PeerError(
            f"{self.name} does not run this model. Its last words: {last}"
        )
        error.add_note(said[-LAST:])
        raise error
