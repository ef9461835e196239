"""Proposers of every kind, and answers with and without drafts beside one another."""

import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache
from typing import Any, ClassVar, cast

import mlx.core as mx
import pytest
import tiny
from places import DEMO

from mlx_gemma4 import Chunk, Gemma4, PrefixCache, Processor, load, stream_generate
from mlx_gemma4.assistant.drafter import Drafter
from mlx_gemma4.cache import LayerCache
from mlx_gemma4.config import FULL, SLIDING, ConfigWarning

GREEDY: dict[str, Any] = {"temperature": 0}
SAMPLED: dict[str, Any] = {"temperature": 1.2, "top_p": 0.97, "top_k": 40}


class Kind(Enum):
    """How well drafts foretell an answer."""

    PERFECT = "always right"
    RANDOM = "any ids"
    MIXED = "right more often than not"
    LATE = "wrong at the last place only"
    MARKS = "right, with marks and ends among them"


@dataclass
class Proposer:
    """Stands in for a model's drafter: knows `answer`, that begins behind `start`."""

    kind: Kind
    answer: Sequence[int]
    start: int
    marks: Sequence[int]
    draw: random.Random = field(default_factory=lambda: random.Random(0))
    asked: int = 0
    nbytes: ClassVar[int] = 0

    def propose(
        self,
        model: Gemma4,
        token: int,
        hidden: mx.array,
        cache: Sequence[LayerCache],
        count: int,
    ) -> mx.array:
        assert hidden.shape[:2] == (1, 1) and count > 0
        self.asked += 1
        at = cache[0].offset - self.start
        assert self.answer[at : at + 1] in ([token], [])
        right = [*self.answer[at + 1 : at + 1 + count]]
        right += [3] * (count - len(right))
        rows = model.config.text_config.token_rows
        return mx.array([[self._draft(i, t, count, rows) for i, t in enumerate(right)]])

    def _draft(self, i: int, right: int, count: int, rows: int) -> int:
        anything = self.draw.randrange(rows)
        if self.kind is Kind.PERFECT:
            return right
        if self.kind is Kind.RANDOM:
            return anything
        if self.kind is Kind.LATE:
            return right if i + 1 < count else (right + 1) % rows
        if self.draw.random() < 0.75:
            return right
        return anything if self.kind is Kind.MIXED else self.draw.choice(self.marks)


@dataclass(frozen=True)
class Outcome:
    """All that is seen of an answer, and what its caches hold behind it."""

    chunks: list[Chunk]
    held: list[int]
    loops: int
    thought_tokens: int
    start: int | None  # where the answer begins, of one that was heard to its end
    drafted: int = field(default=0, compare=False)
    accepted: int = field(default=0, compare=False)

    @property
    def tokens(self) -> list[int]:
        return [chunk.token for chunk in self.chunks]


@dataclass
class Pair:
    """A model and its processor, asked with drafts and without."""

    model: Gemma4
    processor: Processor

    def outcome(
        self, stop_after: int | None = None, before: Any = None, **options: Any
    ) -> Outcome:
        """stop_after: chunks, behind which nobody listens any more. before: what the
        prefix cache has read, as the options of another answer."""
        prefix = PrefixCache(self.model)
        if before is not None:
            self._heard(before, prefix, stop_after)
        chunks = self._heard(options, prefix, stop_after)
        assert prefix.cache[0].offset == len(prefix.tokens)
        stats = chunks[-1].stats
        if stats is not None:
            assert stats.accepted <= stats.drafted
        plain = [replace(chunk, stats=None) for chunk in chunks]
        held = list(prefix.tokens)
        if stats is None:
            return Outcome(plain, held, 0, 0, None)
        begun = len(chunks) - stats.completion_tokens
        counts = stats.loops, stats.thought_tokens, stats.prompt_tokens - begun
        return Outcome(plain, held, *counts, stats.drafted, stats.accepted)

    def _heard(
        self, options: dict[str, Any], prefix: PrefixCache, most: int | None
    ) -> list[Chunk]:
        stream = stream_generate(
            self.model, self.processor, **options, prefix=prefix, prefill_step=16
        )
        assert isinstance(stream, Iterator)
        found: list[Chunk] = []
        for chunk in stream:
            found.append(chunk)
            if len(found) == most:
                break
        stream.close()  # type: ignore[attr-defined]
        return found

    def check(self, draft: str, kind: Kind, number: int = 0, **options: Any) -> Outcome:
        """That drafts change nothing of an answer, which is returned."""
        self.model.drafter = None
        plain = whole = self.outcome(**options, draft="off")
        if whole.start is None:
            whole = self.outcome(**{**options, "stop_after": None}, draft="off")
        assert whole.start is not None
        special = self.processor.tokenizer.special_tokens
        marks = [*special.values(), *self.processor.generation.stop_tokens]
        self.proposer = Proposer(
            kind, whole.tokens, whole.start, marks, random.Random(number)
        )
        self.model.drafter = cast(Drafter, self.proposer)
        drafted = self.outcome(**options, draft=draft)
        self.model.drafter = None
        assert drafted.tokens == plain.tokens
        assert drafted == plain
        return drafted


@cache
def pair(variant: str, packed: bool = False) -> Pair:
    """A random model with the demo's vocabulary and a window of eight tokens, cut to a
    few layers of all its kinds."""
    vocab = load_demo().model.config.text_config.vocab_size
    shared = variant in ("E2B", "E4B")
    kinds = [SLIDING, FULL, SLIDING, FULL] if shared else [SLIDING, SLIDING, FULL]
    build = tiny.build_packed if packed else tiny.build
    model = build(
        variant,
        5,
        vocab_size=vocab,
        vocab_size_per_layer_input=vocab,
        layer_types=kinds,
        num_hidden_layers=len(kinds),
        num_kv_shared_layers=2 if shared else 0,
    )
    with warnings.catch_warnings():  # 12B reads media otherwise than the demo
        warnings.simplefilter("ignore", ConfigWarning)
        return Pair(model, Processor.from_folder(DEMO, model.config))


@cache
def load_demo() -> Pair:
    return Pair(*load(DEMO))


class Scripted:
    """Has a model say `script` behind a prompt of `start` tokens, whatever it reads;
    its layers run and its caches are filled as ever."""

    def __init__(
        self, patch: pytest.MonkeyPatch, start: int, script: Sequence[int]
    ) -> None:
        plain = Gemma4.hidden

        def hidden(model: Gemma4, inputs: mx.array, *args: Any, **named: Any):
            cache = args[0] if args else named["cache"]
            offset = cache[0].offset
            h = plain(model, inputs, *args, **named)
            count = inputs.shape[1]
            places = mx.arange(offset, offset + count)[None, :, None]
            return mx.broadcast_to(places[:, -h.shape[1] :], (1, h.shape[1], 2))

        def logits(model: Gemma4, h: mx.array) -> mx.array:
            rows = mx.arange(model.config.text_config.vocab_size)
            places = mx.clip(h[..., 0] + 1 - start, 0, len(script) - 1)
            said = mx.array(list(script))[places]
            # The next best is foreseeable, too, where the best one must not come.
            near = mx.exp(-mx.abs(rows - said[..., None]).astype(mx.float32))
            return mx.where(rows == said[..., None], 30.0, near)

        patch.setattr(Gemma4, "hidden", hidden)
        patch.setattr(Gemma4, "logits", logits)
