"""Generation: prefill in chunks, decode one step ahead, stop, split, stream.

Nothing is computed that nobody reads: of a prompt only the last position reaches the
KV-shared layers and the head, and earlier chunks only fill the caches.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import mlx.core as mx

from .errors import ChatError
from .model import Gemma4
from .prefix import PrefixCache
from .processor import Processor
from .sampling import Sampler, Sampling
from .splitter import Piece, Splitter, StopStrings, opens_thought
from .tools import ToolCall, parse_call

PREFILL_STEP = 1024  # tokens read at once: bounds the memory of a long prompt
CLEAR_EVERY = 256  # decoded tokens between returns of unused memory

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass
class Stats:
    """What a call did and took. Times in seconds, memory in bytes.

    prompt_tokens counts all of the prompt, cached_tokens those of it that were already
    in the prefix cache.
    """

    prompt_tokens: int
    cached_tokens: int
    seed: int
    completion_tokens: int = 0
    time_to_first_token: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    peak_memory: int = 0

    @property
    def prefill_tps(self) -> float:
        """Prompt tokens read per second, the cached ones not counted."""
        read = self.prompt_tokens - self.cached_tokens
        return read / self.prefill_seconds if self.prefill_seconds else 0.0

    @property
    def decode_tps(self) -> float:
        """Tokens per second after the first."""
        later = self.completion_tokens - 1
        return later / self.decode_seconds if self.decode_seconds else 0.0


@dataclass(frozen=True)
class Chunk:
    """What one generated token added. The last chunk has a finish_reason and stats.

    text is new answer, thought new thinking, tool_calls the calls it completed.
    """

    text: str
    token: int
    thought: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    stats: Stats | None = None


@dataclass
class Response:
    """A whole answer; `tokens` are the generated ids, the stop token included."""

    text: str = ""
    thought: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    finish_reason: FinishReason = "stop"
    stats: Stats | None = None


def generate(
    model: Gemma4,
    processor: Processor,
    messages: Sequence[Mapping[str, Any]] | None = None,
    **options: Any,
) -> Response:
    """The whole answer at once; takes the options of `stream_generate`."""
    response = Response()
    for chunk in stream_generate(model, processor, messages, **options):
        response.text += chunk.text
        response.thought += chunk.thought
        response.tool_calls += chunk.tool_calls
        response.tokens.append(chunk.token)
        response.finish_reason = chunk.finish_reason or response.finish_reason
        response.stats = chunk.stats or response.stats
    return response


def stream_generate(
    model: Gemma4,
    processor: Processor,
    messages: Sequence[Mapping[str, Any]] | None = None,
    *,
    tokens: Sequence[int] | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    thinking: bool = False,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    seed: int | None = None,
    stop: Sequence[str] = (),
    prefix: PrefixCache | None = None,
    prefill_step: int = PREFILL_STEP,
) -> Iterator[Chunk]:
    """Answer `messages`, or go on from raw `tokens`: one chunk per generated token.

    max_tokens: None goes on to the end of the model's context.
    temperature, top_p, top_k: None takes the checkpoint's own setting.
    stop: strings that end the answer and are not part of it.
    prefix: of this conversation; what it holds of the prompt is not read again.

    Raises ChatError for a conversation or an option that cannot be honoured, before
    anything is computed.
    """
    defaults = processor.generation
    sampling = Sampling(
        defaults.temperature if temperature is None else temperature,
        defaults.top_p if top_p is None else top_p,
        defaults.top_k if top_k is None else top_k,
        min_p,
        repetition_penalty,
        seed,
    )
    prefix = prefix or PrefixCache(model)
    prompt, text = _prompt(processor, messages, tokens, tools, thinking, prefix)
    limit = _token_limit(model, len(prompt), max_tokens)
    sampler = Sampler(sampling, prompt, model.config.text_config.vocab_size)
    writer = _Writer(processor, opens_thought(text), stop)
    if prefill_step < 1:
        raise ChatError(f"prefill_step is {prefill_step}; it must be 1 or more.")
    # A tool's answer continues a turn; only a turn's own start is worth a pin.
    pins = not messages or messages[-1].get("role") != "tool"
    return _run(model, prompt, limit, sampler, writer, prefix, pins, prefill_step)


def _prompt(
    processor: Processor,
    messages: Sequence[Mapping[str, Any]] | None,
    tokens: Sequence[int] | None,
    tools: Sequence[Mapping[str, Any]] | None,
    thinking: bool,
    prefix: PrefixCache,
) -> tuple[list[int], str]:
    """Ids and text of the prompt."""
    if (messages is None) == (tokens is None):
        raise ChatError("Give either messages or tokens.")
    if messages is not None:
        text = processor(messages, tools=tools, thinking=thinking).text
        return processor.tokenizer.continue_tokens(prefix.tokens, text), text
    prompt = [int(token) for token in tokens or ()]
    if not prompt:
        raise ChatError("tokens is empty; give at least one id.")
    return prompt, processor.tokenizer.decode(prompt)


def _token_limit(model: Gemma4, prompt: int, max_tokens: int | None) -> int:
    """How many tokens may be generated."""
    context = model.config.text_config.max_position_embeddings
    if max_tokens is not None and max_tokens < 1:
        raise ChatError(f"max_tokens is {max_tokens}; it must be 1 or more.")
    if prompt >= context:
        raise ChatError(
            f"The prompt has {prompt} tokens; this model reads at most {context - 1}. "
            "Shorten it or start a new conversation."
        )
    room = context - prompt
    return room if max_tokens is None else min(room, max_tokens)


def _run(
    model: Gemma4,
    prompt: list[int],
    limit: int,
    sampler: Sampler,
    writer: "_Writer",
    prefix: PrefixCache,
    pins: bool,
    prefill_step: int,
) -> Iterator[Chunk]:
    mx.reset_peak_memory()
    started = time.perf_counter()
    cached = prefix.reuse(prompt)
    stats = Stats(len(prompt), cached, sampler.seed)
    if pins:
        prefix.pin()
    token = sampler(_prefill(model, prompt[cached:], prefix, prefill_step))
    mx.eval(token)
    first = time.perf_counter()
    stats.time_to_first_token = stats.prefill_seconds = first - started
    if pins:
        prefix.pin()
    for value in _decode(model, token, limit, sampler, prefix):
        stats.completion_tokens += 1
        chunk = writer.take(value, last=stats.completion_tokens == limit)
        if chunk.finish_reason is None:
            yield chunk
            continue
        stats.decode_seconds = time.perf_counter() - first
        stats.peak_memory = mx.get_peak_memory()
        yield Chunk(
            chunk.text,
            value,
            chunk.thought,
            chunk.tool_calls,
            chunk.finish_reason,
            stats,
        )
        return


def _prefill(
    model: Gemma4, tokens: list[int], prefix: PrefixCache, step: int
) -> mx.array:
    """Read `tokens` in chunks; return the last position's logits [1, vocab]."""
    while len(tokens) > step:
        model(mx.array([tokens[:step]]), cache=prefix.cache)
        mx.eval([layer.state for layer in prefix.cache])
        prefix.tokens += tokens[:step]
        tokens = tokens[step:]
        mx.clear_cache()
    logits = model(mx.array([tokens]), cache=prefix.cache, last_only=True)
    prefix.tokens += tokens
    return logits[:, -1]


def _decode(
    model: Gemma4, token: mx.array, limit: int, sampler: Sampler, prefix: PrefixCache
) -> Iterator[int]:
    """Yield `token` [1, 1] and what follows it, computing one step ahead."""
    for count in range(1, limit + 1):
        ahead = None
        if count < limit:
            ahead = sampler(model(token, cache=prefix.cache)[:, -1])
            mx.async_eval(ahead)
        value = int(token.item())
        if ahead is not None:
            prefix.tokens.append(value)
        yield value
        if ahead is None:
            return
        token = ahead
        if count % CLEAR_EVERY == 0:
            mx.clear_cache()


class _Writer:
    """Turns generated ids into chunks of text and decides when the answer ends."""

    def __init__(self, processor: Processor, inside_thought: bool, stop: Sequence[str]):
        self._stop_tokens = frozenset(processor.generation.stop_tokens)
        self._detokenizer = processor.tokenizer.detokenizer()
        special = processor.tokenizer.special_tokens
        self._splitter = Splitter(inside_thought, special)
        self._stops = StopStrings(stop)
        self._called = False

    def take(self, token: int, last: bool) -> Chunk:
        """The chunk of one more token; `last` says that no further one will come."""
        ends = token in self._stop_tokens
        text = self._detokenizer.add(token)  # a stop mark may close a call
        if ends or last:
            text += self._detokenizer.finish()
        pieces = self._splitter.feed(text)
        if ends or last:
            pieces += self._splitter.finish()
        answer, thought, calls = self._sort(pieces)
        shown, hit = self._stops.feed(answer)
        if (ends or last) and not hit:
            shown += self._stops.finish()
        self._called = self._called or bool(calls)
        reason: FinishReason | None = None
        if hit or ends:
            reason = "tool_calls" if self._called and not hit else "stop"
        elif last:
            reason = "length"
        return Chunk(shown, token, thought, calls, reason)

    def _sort(self, pieces: list[Piece]) -> tuple[str, str, tuple[ToolCall, ...]]:
        """Answer, thought and calls among `pieces`."""
        answer, thought, calls = "", "", []
        for piece in pieces:
            if piece.kind == "answer":
                answer += piece.text
            elif piece.kind == "thought":
                thought += piece.text
            else:
                calls.append(parse_call(piece.text))
        return answer, thought, tuple(calls)
