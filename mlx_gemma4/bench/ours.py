"""This project as a contender of `gemma4 bench`, in a process with larger buffers.

    python -m mlx_gemma4.bench.ours FOLDER PLE KV_BITS

is the other side: it loads the model and decodes behind the prompts that it is sent.
"""

import os
import sys
from pathlib import Path

from ..checkpoint.load import prepare_model, recall_kernels
from ..config.ple import Ple
from .buffers import Settings
from .child import answers, serve
from .timing import Sample, contender
from .worker import Worker, running

NAME = "larger buffers"


class Larger(Worker):
    """A process with the model, and with `settings` in its environment.

    Raises PeerError where it does not load the folder or ends before it answers.
    """

    def __init__(
        self, folder: Path, settings: Settings, ple: Ple, kv_bits: int | None = None
    ):
        command = running(__name__, str(folder), ple, str(kv_bits or 0))
        super().__init__(NAME, command, {**os.environ, **settings})

    def __call__(self, prompt: list[int], decode: int) -> Sample:
        return Sample(**self.ask("sample", prompt, decode))


class Session:
    """What the process answers."""

    def __init__(self, folder: Path, ple: Ple, kv_bits: int | None):
        prepared = prepare_model(folder, ple=ple)
        self._run = contender(prepared.load(), kv_bits)
        recall_kernels(prepared)

    def sample(self, prompt: list[int], decode: int) -> Sample:
        return self._run(prompt, decode)


def main() -> None:
    answer = answers()
    session = Session(Path(sys.argv[1]), Ple(sys.argv[2]), int(sys.argv[3]) or None)
    answer("ready")
    serve(session, answer)


if __name__ == "__main__":
    main()
