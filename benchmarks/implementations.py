"""The programs compared, each behind the same three calls.

All take raw ids, decode greedily, and are asked through their public functions. What
they need is imported when they are loaded: a process holds one of them only.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

OURS = "mlx-gemma4"


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
    from mlx_gemma4.generation.loop import PREFILL_STEP

    model, processor = load(folder, dtype=getattr(mx, dtype))

    def start(tokens: list[int], most: int) -> Iterator[int]:
        for chunk in stream_generate(
            model, processor, tokens=tokens, temperature=0, max_tokens=most
        ):
            yield chunk.token

    def gap(tokens: list[int], a: int, b: int) -> float:
        logits = model(mx.array([tokens]), last_only=True)[0, -1]
        above = (logits[a] - logits[b]).item()
        assert isinstance(above, float)
        return above

    return Loaded(start, mx.synchronize, PREFILL_STEP, gap)


def load_mlx_lm(folder: Path, dtype: str) -> Loaded:
    import json

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

    return Loaded(
        start,
        lambda: mx.synchronize(generation_stream),
        _default(generate_step, "prefill_step_size"),
    )


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

    return Loaded(
        start,
        lambda: mx.synchronize(generation_stream),
        _default(generate_step, "prefill_step_size"),
    )


def _default(function: Callable[..., object], parameter: str) -> int:
    import inspect

    return inspect.signature(function).parameters[parameter].default


# Name of the package -> its module, and what loads it.
IMPLEMENTATIONS: dict[str, tuple[str, Callable[[Path, str], Loaded]]] = {
    OURS: ("mlx_gemma4", load_ours),
    "mlx-lm": ("mlx_lm", load_mlx_lm),
    "mlx-vlm": ("mlx_vlm", load_mlx_vlm),
}
