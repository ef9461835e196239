"""Reading a prompt in chunks, so that its memory is bounded and Ctrl-C is heard."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx

from ..cache import LayerCache, reserve
from ..errors import CheckpointError
from ..media import Span, media_between
from ..model import Gemma4
from .prefix import PrefixCache
from .step import Found
from .stream import Pause, Steps

STEP = 1024  # tokens read at once
EXPERTS_STEP = 2048  # on a GPU, where each of many experts gets only some of them
SHORT = 64  # tokens that nobody waits for

Progress = Callable[[int, int], None]  # tokens that are read, of how many


@dataclass(frozen=True)
class Prompt:
    """`keys` are what a prefix cache compares in place of the tokens."""

    tokens: list[int]
    spans: Sequence[Span]
    keys: list[int]


def step_for(model: Gemma4) -> int:
    """How many tokens `model` reads at once unless told otherwise."""
    has_experts = model.config.text_config.enable_moe_block
    return EXPERTS_STEP if has_experts and mx.metal.is_available() else STEP


def prefill(
    model: Gemma4,
    prompt: Prompt,
    prefix: PrefixCache,
    start: int,
    step: int,
    progress: Progress | None = None,
) -> Found:
    """Read the prompt from `start` on; return what is found at its last position.

    progress: called before each chunk; what it raises leaves `prefix` usable.

    Whole media stay within a chunk: positions of a picture may see each other.
    """
    chunks = reading(model, prompt, prefix, start, step, progress)
    while True:
        try:
            next(chunks)
        except StopIteration as end:
            return end.value


def reading(
    model: Gemma4,
    prompt: Prompt,
    prefix: PrefixCache,
    start: int,
    step: int,
    progress: Progress | None = None,
) -> Steps[Pause, Found]:
    """What `prefill` does, with pauses between the chunks."""
    tokens, spans, table = prompt.tokens, prompt.spans, model.language_model.table
    hidden, running = None, ()
    reserve(prefix.cache, len(tokens))
    while start < len(tokens):
        if progress is not None:
            progress(start, len(tokens))
        end = min(start + step, len(tokens))
        pause = start + prefix.shared - len(prefix.tokens)
        if start < pause < end:
            end = pause  # no medium stands across it
        end = max([end, *(span.end for span in spans if span.start < end)])
        more = end < len(tokens)
        hidden = model.hidden(
            mx.array([tokens[start:end]]),
            cache=prefix.cache,
            media=media_between(spans, start, end),
            last_only=not more,
            caches_only=more,
        )
        if table is not None and more:
            table.prefetch(tokens[end : end + step])
        if more or end - start > SHORT:
            running = _compute(prefix.cache, running)
        if more:
            hidden = None  # nobody asks for it, and it keeps what it would be made of
            mx.clear_cache()
        prefix.extend(tokens[start:end], prompt.keys[start:end])
        start = end
        if len(prefix.tokens) == prefix.shared:
            prefix.pin(shared=True)
        if more:
            yield Pause()
    assert hidden is not None  # reuse leaves at least one token
    hidden = hidden[:, -1:]
    return model.logits(hidden), hidden


def _compute(
    cache: Sequence[LayerCache], running: Sequence[mx.array]
) -> Sequence[mx.array]:
    """Compute what was read into `cache`, and wait for all of it but the last layer.

    Layer by layer, since Python hears Ctrl-C only between evaluations; and each is
    started before the one in front of it, `running` at first, is waited for, so that a
    GPU does not idle, and the next chunk's graph is built meanwhile.
    """
    for layer in cache:
        state = layer.state
        mx.async_eval(state)
        mx.eval(running)
        running = state
    return running


def check_finite(logits: mx.array) -> None:
    if not mx.isfinite(logits).all().item():
        raise CheckpointError(
            f"The model's first logits are not finite ({logits.dtype}): its weights "
            "are damaged or do not suit this dtype. Load it with dtype=mx.float32, or "
            "download it again."
        )
