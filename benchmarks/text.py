"""In the process of one program: it reads a prompt and decodes.

All take raw ids, decode greedily, and are asked through their public functions. What
they need is imported when they are loaded: a process holds one of them only.
"""

import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from child import Spent, Stopwatch, peak_rss, serve, start_up

WARM_UP = 4  # tokens decoded before anything is timed


@dataclass(frozen=True)
class Loaded:
    """A program with the checkpoint loaded.

    start(tokens, most): yields the ids that follow `tokens`, at most `most`.
    synchronize(): waits for what was computed ahead.
    prefill_step: how many prompt tokens it reads at once, its own default.
    gap(tokens, a, b): the logit of id `a` less that of `b` after `tokens`; ours only.
    """

    start: Callable[[list[int], int], Iterator[int]]
    synchronize: Callable[[], None]
    prefill_step: int
    gap: Callable[[list[int], int, int], float] | None = None


def load_ours(folder: Path, dtype: str) -> Loaded:
    import mlx.core as mx

    from mlx_gemma4 import load, stream_generate
    from mlx_gemma4.decoding.prefill import step_for

    model, processor = load(folder, dtype=getattr(mx, dtype))

    def start(tokens: list[int], most: int) -> Iterator[int]:
        for chunk in stream_generate(
            model,
            processor,
            tokens=tokens,
            temperature=0,
            max_tokens=most,
            stop_loops=False,
        ):
            yield chunk.token

    def gap(tokens: list[int], a: int, b: int) -> float:
        logits = model(mx.array([tokens]), last_only=True)[0, -1]
        above = (logits[a] - logits[b]).item()
        assert isinstance(above, float)
        return above

    return Loaded(start, mx.synchronize, step_for(model), gap)


def load_mlx_lm(folder: Path, dtype: str) -> Loaded:
    import mlx.core as mx
    from mlx_lm import load, stream_generate
    from mlx_lm.generate import generate_step, generation_stream

    config = json.loads((folder / "config.json").read_text())
    # It takes the vocabulary's size from the top level, where real files lack it.
    size = {"vocab_size": config["text_config"]["vocab_size"]}
    model, tokenizer, *_ = load(str(folder), model_config=size)

    def start(tokens: list[int], most: int) -> Iterator[int]:
        for answer in stream_generate(model, tokenizer, tokens, max_tokens=most):
            yield answer.token

    step = _default(generate_step, "prefill_step_size")
    return Loaded(start, lambda: mx.synchronize(generation_stream), step)


def load_mlx_vlm(folder: Path, dtype: str) -> Loaded:
    """Without its processor, which needs a picture processor's files."""
    import mlx.core as mx
    from mlx_vlm.generate import generate_step
    from mlx_vlm.generate.ar import generation_stream
    from mlx_vlm.utils import load_model

    model = load_model(folder)

    def start(tokens: list[int], most: int) -> Iterator[int]:
        ids = mx.array([tokens])
        for token, _ in generate_step(
            ids, model, None, None, max_tokens=most, temperature=0
        ):
            yield int(token)

    step = _default(generate_step, "prefill_step_size")
    return Loaded(start, lambda: mx.synchronize(generation_stream), step)


def _default(function: Callable[..., object], parameter: str) -> int:
    return inspect.signature(function).parameters[parameter].default


LOADERS = {"mlx-gemma4": load_ours, "mlx-lm": load_mlx_lm, "mlx-vlm": load_mlx_vlm}


class Session:
    """What the process answers."""

    def __init__(self, loaded: Loaded):
        self.loaded = loaded
        self.tokens: list[int] = []
        self.answer: Iterator[int] = iter(())

    def first(self, prompt: list[int]) -> Spent:
        """The first answer of the process, a short one."""
        spent = self.prefill(prompt, WARM_UP + 2)
        self.decode(WARM_UP)
        return spent

    def prefill(self, prompt: list[int], most: int) -> Spent:
        """From the call to the first token. The processor time also holds the step
        after it, which every program computes ahead."""
        import mlx.core as mx

        mx.clear_cache()
        mx.reset_peak_memory()
        watch = Stopwatch()
        self.answer = self.loaded.start(prompt, most)
        self.tokens = [next(self.answer)]
        wall = watch.read().wall
        self.loaded.synchronize()
        return Spent(wall, watch.read().cpu)

    def decode(self, count: int) -> Spent:
        """`count` more tokens, waiting for the one computed ahead."""
        watch = Stopwatch()
        self.tokens += [next(self.answer) for _ in range(count)]
        self.loaded.synchronize()
        return watch.read()

    def end(self) -> dict[str, Any]:
        import mlx.core as mx

        return {
            "tokens": self.tokens,
            "mlx_bytes": mx.get_peak_memory(),
            "rss_bytes": peak_rss(),
        }

    def gap(self, prompt: list[int], a: int, b: int) -> float:
        assert self.loaded.gap is not None
        return self.loaded.gap(prompt, a, b)


def run(
    answer: Callable[[object], None], name: str, folder: str, dtype: str, started: str
) -> None:
    """Loads the checkpoint and serves. started: by `time.time()` of the parent."""
    loaded = LOADERS[name](Path(folder), dtype)
    loaded.synchronize()
    answer({"start_up": start_up(float(started)), "step": loaded.prefill_step})
    serve(Session(loaded), answer)
