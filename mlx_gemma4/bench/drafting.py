"""What drafts gain: the same answers without any and with each kind of them, in turns.

Unlike timing.py it measures real answers, since what is accepted depends on the text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ..decoding.drafts import Draft
from ..errors import BenchError
from ..generation.loop import stream_generate
from ..model import Gemma4
from ..prompt.processor import Processor
from .child import Stopwatch

OFF, NEW = "off", "auto, new"
UNLIKELY = -1e4  # added to a logit


@dataclass(frozen=True)
class Task:
    """What is asked, and how it is answered, with at most `most` tokens.

    messages: or ids of tokens, as they are.
    endless: the answer goes on where it would have ended.
    """

    name: str
    messages: str | Sequence[Mapping[str, Any]] | None
    most: int
    tokens: Sequence[int] | None = None
    temperature: float | None = None
    endless: bool = False
    kv_bits: int | None = None


@dataclass(frozen=True)
class Answered:
    """An answer. Seconds, by the clock and of the processor, are those of all tokens
    but the first."""

    tokens: tuple[int, ...]
    clock: float
    processor: float
    drafted: int
    accepted: int

    @property
    def rate(self) -> float:
        """Tokens a second, by the clock."""
        return (len(self.tokens) - 1) / self.clock


Answering = Callable[[int], Answered]
"""Gets the number of the round, which is the seed."""


def kinds_of(model: Gemma4) -> list[Draft]:
    """Without drafts first, then with all that the model can have."""
    assistant: list[Draft] = [] if model.drafter is None else ["assistant"]
    return ["off", "auto", *assistant, "lookup"]


def contenders(
    model: Gemma4, processor: Processor, task: Task, unlearned: bool = False
) -> dict[str, Answering]:
    """Answers to `task` by kind of drafts.

    unlearned: also "auto" that knows nothing of earlier answers.
    """

    def answering(draft: Draft) -> Answering:
        return lambda number: answer(model, processor, task, draft, number)

    def new(number: int) -> Answered:
        kept, model.paces = model.paces, None
        try:
            return answer(model, processor, task, "auto", number)
        finally:
            model.paces = kept

    compared = {draft: answering(draft) for draft in kinds_of(model)}
    return cast("dict[str, Answering]", compared) | ({NEW: new} if unlearned else {})


def answer(
    model: Gemma4, processor: Processor, task: Task, draft: Draft, seed: int
) -> Answered:
    """Raises BenchError for an answer of one token, which leaves nothing to time."""
    ends = processor.generation.stop_tokens if task.endless else ()
    chunks = stream_generate(
        model,
        processor,
        task.messages,
        tokens=task.tokens,
        max_tokens=task.most,
        temperature=task.temperature,
        seed=seed,
        stop_loops=False,
        draft=draft,
        kv_bits=task.kv_bits,
        logit_bias=dict.fromkeys(ends, UNLIKELY),
    )
    last = next(chunks)
    tokens, watch = [last.token], Stopwatch()
    for last in chunks:
        tokens.append(last.token)
    spent = watch.read()
    stats = last.stats
    if len(tokens) == 1 or stats is None:
        raise BenchError(
            f"The answer to {task.name} has one token only, and none behind it to "
            "time: ask for more."
        )
    return Answered(tuple(tokens), spent.wall, spent.cpu, stats.drafted, stats.accepted)
