"""An answer as it comes: the prompt is read, tokens are drawn, watched and written."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import mlx.core as mx

from ..decoding.drafts import Drafts
from ..decoding.prefill import Progress, Prompt, check_finite, reading
from ..decoding.prefix import PrefixCache
from ..decoding.prefixes import Pins
from ..decoding.rounds import Decoding
from ..decoding.stream import Given, Pause, Steps, Wanted, advance
from ..device import keep_in_memory
from ..model import Gemma4
from ..sampling import Sampler
from .answer import Chunk, Stats, Writer
from .limits import LoopWatch, close_thought

if TYPE_CHECKING:
    from ..forms.guide import Guide


def run(
    model: Gemma4,
    prompt: Prompt,
    limit: int,
    sampler: Sampler,
    writer: Writer,
    written: Sequence[Chunk],
    prefix: PrefixCache,
    pins: Pins,
    prefill_step: int,
    guide: "Guide | None",
    watch: LoopWatch | None,
    progress: Progress | None,
    drafts: Drafts | None,
) -> Steps[Chunk, None]:
    """Read the prompt, then one chunk per token: of those `written`, then of those that
    are drawn."""
    keep_in_memory()
    mx.reset_peak_memory()
    started = time.perf_counter()
    cached = prefix.reuse(prompt.keys)
    stats = Stats(len(prompt.tokens), cached, sampler.seed, kv_bits=prefix.kv_bits)
    if pins == "both":
        prefix.pin()
    chunks = reading(model, prompt, prefix, cached, prefill_step, progress)
    logits, hidden = yield from chunks
    begun = sampler.count
    token = sampler(logits[:, -1], guide.allowed() if guide else None)
    mx.eval(token)
    check_finite(logits)
    first = time.perf_counter()
    stats.time_to_first_token = stats.prefill_seconds = first - started
    if pins != "none":
        prefix.pin(passing=pins == "end")
    yield from written
    if drafts is not None:
        drafts.begin(len(prompt.tokens))
    decoding = Decoding(model, token, hidden, sampler, prefix, drafts)
    decoding.alone = not prefix.busy  # in a batch, the first step tells
    drawn = decoding.guided(guide, prefill_step) if guide else decoding.free(limit)
    thinks = writer.inside_thought
    given: Given | None = None
    while (value := advance(drawn, given)) is not None:
        given = None
        if isinstance(value, Wanted | Pause):
            given = yield value
            continue
        stats.completion_tokens += 1
        loops = watch is not None and watch.add(value)
        if loops and thinks and watch is not None:
            stats.loops += 1
            # Where decoding runs ahead, the next token is drawn already.
            next_one = begun + stats.completion_tokens
            close_thought(sampler, watch.tokenizer, next_one + 1)
            watch.forget()
            loops = False
        most = limit if guide is None else guide.limit
        last = loops or stats.completion_tokens == most
        chunk = writer.take(value, last)
        stats.thought_tokens += thinks or writer.inside_thought
        if thinks != writer.inside_thought and watch is not None:
            watch.forget()
        thinks = writer.inside_thought
        if loops and chunk.finish_reason == "length":
            chunk = replace(chunk, finish_reason="loop")
        if chunk.finish_reason is None:
            yield chunk
            continue
        drawn.close()  # the caches hold what was given, and no more
        stats.decode_seconds = time.perf_counter() - first
        stats.peak_memory = mx.get_peak_memory()
        if drafts is not None:
            stats.drafted, stats.accepted = drafts.drafted, drafts.accepted
            stats.draft_gain = drafts.gained
        if guide and chunk.finish_reason in ("length", "stop", "tool_calls"):
            chunk = replace(chunk, finish_reason=guide.reason(chunk.finish_reason))
        yield replace(chunk, stats=stats)
        return
