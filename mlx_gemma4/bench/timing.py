"""How fast a model reads a prompt and decodes behind it.

Text is not made of the tokens, and none of them ends the answer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from ..config import TextConfig
from ..device import memory_limit
from ..errors import BenchError
from ..generation.loop import stream_generate
from ..kernels import any_on, using
from ..model import Gemma4
from ..prompt.processor import GenerationDefaults
from .rounds import Note, Progress, take_rounds
from .traffic import held_bytes, model_dtype

OURS = "mlx-gemma4"
WARM_UP = 4  # tokens decoded before anything counts
CONTEXTS = {"gpu": (512, 4096), "cpu": (128, 512)}  # measured unless told otherwise
FILLED = 0.75  # of the memory, at most, by those


@dataclass(frozen=True)
class Sample:
    """One prompt and what was decoded behind it. Seconds and bytes.

    first_token: from the call to the first token, the whole prompt included.
    decode: of the tokens after the first.
    """

    first_token: float
    decode: float
    peak: int


Contender = Callable[[list[int], int], Sample]
"""Reads a prompt, decodes so many tokens after the first one, and times both."""


@dataclass(frozen=True)
class Series:
    """All rounds of one contender at one context, and the one that warmed up."""

    name: str
    context: int
    decoded: int
    warm_up: Sample
    samples: tuple[Sample, ...]

    @property
    def prefill_rates(self) -> list[float]:
        return [self.context / each.first_token for each in self.samples]

    @property
    def decode_rates(self) -> list[float]:
        return [self.decoded / each.decode for each in self.samples]

    @property
    def peak(self) -> int:
        return max(each.peak for each in self.samples)


def prompt_of(length: int, vocab_size: int, first: int = 0) -> list[int]:
    """`length` ids from `first` on that look shuffled and are the same everywhere."""
    words = vocab_size - first
    return [first + (7919 * i * i + 104729 * i) % words for i in range(length)]


def check_reach(config: TextConfig, context: int, decode: int) -> None:
    """Raises BenchError where the model does not hold that many tokens."""
    most = config.max_position_embeddings - decode - 1
    if context > most:
        raise BenchError(
            f"A context of {context:,} tokens and {decode:,} more to decode are beyond "
            f"this model, which holds {config.max_position_embeddings:,}. Decode less "
            f"or measure at {most:,} tokens or less."
            if most > 0
            else f"This model holds {config.max_position_embeddings:,} tokens: "
            f"{decode:,} cannot be decoded."
        )


def check_memory(model: Gemma4, context: int, kv_bits: int | None = None) -> None:
    """Raises MemoryError where keys and values do not fit beside the weights."""
    need, limit = memory_needed(model, context, kv_bits), memory_limit()
    if need > limit:
        raise MemoryError(
            f"At a context of {context:,} tokens, weights, keys and values take "
            f"{need / 1e9:.1f} GB, but a model may use at most {limit / 1e9:.1f} GB "
            "here. Measure at a shorter context."
        )


def default_contexts(
    model: Gemma4, decode: int, kv_bits: int | None = None
) -> list[int]:
    """A short and a long context, as far as the model and the memory go."""
    device = "gpu" if mx.metal.is_available() else "cpu"
    room = model.config.text_config.max_position_embeddings - decode - 1
    fit = [
        context
        for context in CONTEXTS[device]
        if context <= room
        and memory_needed(model, context + decode, kv_bits) <= FILLED * memory_limit()
    ]
    return fit or [max(1, min(CONTEXTS[device][0], room))]


def memory_needed(model: Gemma4, context: int, kv_bits: int | None = None) -> int:
    """Bytes of all weights, and of keys and values of `context` tokens."""
    held = held_bytes(model.config.text_config, context, model_dtype(model), kv_bits)
    return model.nbytes + held


def contenders(model: Gemma4, kv_bits: int | None = None) -> dict[str, Contender]:
    """What is compared of this project; the first is what the others stand against:
    without kernels and, where any are on, with them."""
    run = contender(model, kv_bits)
    if not mx.metal.is_available():
        return {OURS: run}
    compared = {"kernels off": without_kernels(run)}
    return compared | ({"kernels on": run} if any_on() else {})


def without_kernels(run: Contender) -> Contender:
    def switched(prompt: list[int], decode: int) -> Sample:
        with using():
            return run(prompt, decode)

    return switched


def contender(model: Gemma4, kv_bits: int | None = None) -> Contender:
    """`model` as it generates for users, its contexts kept in `kv_bits`."""
    silent: Any = _Silent()

    def run(prompt: list[int], decode: int) -> Sample:
        *_, last = stream_generate(
            model,
            silent,
            tokens=prompt,
            temperature=0,
            max_tokens=decode + 1,
            stop_loops=False,
            draft="off",
            kv_bits=kv_bits,
        )
        stats = last.stats
        assert stats is not None and stats.completion_tokens == decode + 1
        return Sample(
            stats.time_to_first_token, stats.decode_seconds, stats.peak_memory
        )

    return run


class _Silent:
    """In place of a processor and its tokenizer: no text, and no stop token."""

    special_tokens: Mapping[str, int] = {}

    def __init__(self) -> None:
        self.tokenizer = self
        self.generation = GenerationDefaults()

    def decode(self, tokens: Sequence[int]) -> str:
        return ""

    def detokenizer(self) -> "_Silent":
        return self

    def add(self, token: int) -> str:
        return ""

    def finish(self) -> str:
        return ""


def measure(
    contenders: Mapping[str, Contender],
    prompt: list[int],
    decode: int,
    runs: int,
    progress: Progress,
    note: Note,
) -> list[Series]:
    """`runs` rounds of all contenders behind a round that does not count.

    progress, note: as those of `take_rounds`.
    """

    def each(run: Contender) -> Callable[[int], Sample]:
        return lambda number: run(prompt, decode if number else WARM_UP)

    calls = {name: each(run) for name, run in contenders.items()}
    found = take_rounds(calls, range(runs + 1), progress, note)
    return [
        Series(name, len(prompt), decode, warm_up, tuple(rest))
        for name, (warm_up, *rest) in found.items()
    ]
