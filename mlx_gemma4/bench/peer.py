"""mlx-lm as a contender of `gemma4 bench`, in a process of its own.

    python -m mlx_gemma4.bench.peer FOLDER DTYPE

is the other side: it loads the model and decodes behind the prompts that it is sent.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

from .child import answers, serve
from .timing import Sample
from .worker import Worker, running

NAME = "mlx-lm"


def installed() -> bool:
    """Whether mlx-lm could be imported; nothing is."""
    return importlib.util.find_spec("mlx_lm") is not None


class Peer(Worker):
    """A process with mlx-lm and the model.

    dtype: of all weights that are not quantised, as in `load`.

    Raises PeerError where mlx-lm does not load the folder or ends before it answers.
    """

    def __init__(self, folder: Path, dtype: str):
        super().__init__(NAME, running(__name__, str(folder), dtype))
        self.version: str = self.ready

    def __call__(self, prompt: list[int], decode: int) -> Sample:
        return Sample(**self.ask("sample", prompt, decode))


class Session:
    """What the process answers."""

    def __init__(self, folder: Path, dtype: str):
        import mlx.core as mx
        from mlx_lm.utils import load_model

        config = json.loads((folder / "config.json").read_text())
        # It takes the vocabulary's size from the top level, where real files lack it.
        size = {"vocab_size": config.get("text_config", config)["vocab_size"]}
        self.model, _ = load_model(folder, model_config=size)
        self.model.set_dtype(getattr(mx, dtype))
        mx.eval(self.model.parameters())

    def sample(self, prompt: list[int], decode: int) -> Sample:
        """As mlx-lm generates for its users, but for the text."""
        import mlx.core as mx
        from mlx_lm.generate import generate_step, generation_stream, wired_limit

        stream: Any = generation_stream
        mx.clear_cache()
        mx.reset_peak_memory()
        with wired_limit(self.model, [stream]):
            started = time.perf_counter()
            steps = generate_step(mx.array(prompt), self.model, max_tokens=decode + 1)
            next(steps)
            first = time.perf_counter()
            for _ in range(decode):
                next(steps)
            ended = time.perf_counter()
            mx.synchronize(stream)  # what it computed ahead is not ours to time
        return Sample(first - started, ended - first, mx.get_peak_memory())


def main() -> None:
    answer = answers()
    from mlx_lm import __version__

    session = Session(Path(sys.argv[1]), sys.argv[2])
    answer(__version__)
    serve(session, answer)


if __name__ == "__main__":
    main()
