"""mlx-lm as a contender of `bench`, in a process of its own.

    python -m mlx_gemma4.bench.peer FOLDER DTYPE

is the other side: it loads the model and answers each line of JSON on stdin, a prompt
and how many tokens to decode, with a line on stdout.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import PeerError
from .timing import Sample

NAME = "mlx-lm"


def installed() -> bool:
    """Whether mlx-lm could be imported; nothing is."""
    return importlib.util.find_spec("mlx_lm") is not None


class Peer:
    """A process with mlx-lm and the model; ends with the context it manages.

    dtype: of all weights that are not quantised, as in `load`.

    Raises PeerError, with what mlx-lm said last, where it does not load the folder or
    ends before it answers.
    """

    def __init__(self, folder: Path, dtype: str):
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder), dtype],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self.version: str = self._reply()["version"]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Peer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __call__(self, prompt: list[int], decode: int) -> Sample:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # then there is no reply either
            self._process.stdin.write(json.dumps([prompt, decode]) + "\n")
            self._process.stdin.flush()
        return Sample(**self._reply())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return json.loads(line)
        self._process.wait()
        self._log.seek(0)
        said = self._log.read().strip().splitlines() or ["(nothing)"]
        raise PeerError(f"{NAME} does not run this model. Its last words: {said[-1]}")


def serve(folder: Path, dtype: str) -> None:
    """Answers until stdin ends."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what is printed while loading is not an answer
    import mlx.core as mx
    from mlx_lm import __version__
    from mlx_lm.utils import load_model

    config = json.loads((folder / "config.json").read_text())
    # It takes the vocabulary's size from the top level, where real files lack it.
    size = {"vocab_size": config.get("text_config", config)["vocab_size"]}
    model, _ = load_model(folder, model_config=size)
    model.set_dtype(getattr(mx, dtype))
    mx.eval(model.parameters())
    print(json.dumps({"version": __version__}), file=replies)
    for line in sys.stdin:
        print(json.dumps(vars(_sample(model, *json.loads(line)))), file=replies)


def _sample(model: Any, prompt: list[int], decode: int) -> Sample:
    """As mlx-lm generates for its users, but for the text."""
    import mlx.core as mx
    from mlx_lm.generate import generate_step, generation_stream, wired_limit

    stream: Any = generation_stream
    mx.clear_cache()
    mx.reset_peak_memory()
    with wired_limit(model, [stream]):
        started = time.perf_counter()
        steps = generate_step(mx.array(prompt), model, max_tokens=decode + 1)
        next(steps)
        first = time.perf_counter()
        for _ in range(decode):
            next(steps)
        ended = time.perf_counter()
        mx.synchronize(stream)  # what it computed ahead is not ours to time
    return Sample(first - started, ended - first, mx.get_peak_memory())


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])
