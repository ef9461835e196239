"""Many conversations, answered together."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ..decoding.batch import ROWS
from ..decoding.drafts import Draft
from ..decoding.prefixes import PrefixCaches
from ..forms.schema import Schema
from ..model import Gemma4
from ..prompt.processor import Processor
from .answer import Response
from .ordered import Ask, in_order

Conversation = str | Sequence[Mapping[str, Any]]


def generate_batch(
    model: Gemma4,
    processor: Processor,
    conversations: Sequence[Conversation],
    *,
    rows: int = ROWS,
    tools: Sequence[Mapping[str, Any]] | None = None,
    thinking: bool = False,
    think_budget: int | None = None,
    image_tokens: int | None = None,
    control_tokens: bool = False,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    presence_penalty: float | None = None,
    frequency_penalty: float | None = None,
    logit_bias: Mapping[int, float] | None = None,
    seed: int | None = None,
    stop: str | Sequence[str] | None = None,
    stop_loops: bool = True,
    plain: bool = False,
    schema: str | Schema | None = None,
    regex: str | None = None,
    grammar: str | None = None,
    strict_tools: bool = False,
    tool_choice: str | None = None,
    parallel_calls: bool = True,
    prefill_step: int | None = None,
    draft: Draft | None = None,
    kv_bits: int | None = None,
    max_context: int | None = None,
    prefix: PrefixCaches | None = None,
) -> list[Response]:
    """The answers to `conversations`, in order, each as `generate` gives it.

    rows: how many are made at once, as far as memory has room for what each reads.

    The other options are those of `stream_generate`, for all of them; so is the seed.
    Where one cannot be answered, its error is raised: a `Batch` takes conversations
    with options of their own, and tells of each how it ended.
    """
    given = locals()  # first, so that it holds what was passed and nothing else
    for name in ("model", "processor", "conversations", "rows"):
        del given[name]

    def asked() -> Iterator[Ask]:
        for messages in conversations:
            yield partial(dict, given, messages=messages)

    answers = in_order(model, processor, asked(), rows)
    return [Response.of(chunks) for chunks in answers]
