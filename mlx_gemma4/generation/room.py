"""Whether there is memory for what is asked: before it is read, and while it is."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import mlx.core as mx
import mlx.nn as nn

from ..decoding.prefill import step_for
from ..decoding.prefix import PINS
from ..decoding.stream import Steps
from ..device import Room, memory_limit
from ..errors import ChatError, ContextError, RoomError, is_out_of_memory
from ..layers import weights_bytes
from ..media import Span
from ..memory.estimate import Demand
from ..memory.media import Block, media_bytes
from ..memory.refusal import refusal
from ..model import Gemma4
from ..prompt.foretold import Foretold, less, named
from .answer import Chunk
from .asked import Fits

RAN_OUT = (
    "Memory ran out in the middle of the answer; what was read before is given up, "
    "and will be read again. Close other programs, or ask for less: a smaller "
    "picture, a shorter text, --max-context (max_context), --kv-bits 8 (kv_bits=8)."
)


def demand_of(model: Gemma4, step: int, kv_bits: int | None = None) -> Demand:
    """What a loaded model takes, and its drafter, with one conversation."""
    dtype = model.language_model.norm.weight.dtype
    part = model.lead.part if model.lead is not None else None
    config = part or model.config.text_config
    return Demand(config, room_of(model).weights, dtype, step, PINS, kv_bits)


def room_of(model: Gemma4) -> Room:
    """Its memory here, or in that of several processes which has the least."""
    if model.lead is not None and model.lead.room is not None:
        return model.lead.room
    weights = model.nbytes
    if model.drafter is not None:
        weights += model.drafter.nbytes
    return Room(weights, memory_limit())


def check_max_context(max_context: int | None, own: int | None = None) -> None:
    """Raises ChatError for one that is no number of tokens, or more than the `own` ones
    that a model reads."""
    if max_context is not None and (type(max_context) is not int or max_context < 1):
        raise ChatError(
            f"max_context is {max_context!r}; it must be a whole number from 1."
        )
    if max_context is not None and own is not None and max_context > own:
        raise ChatError(
            f"--max-context (max_context) is {max_context:,}, but this model reads at "
            f"most {own:,} tokens. Take no more, or leave it out."
        )


def context_for(
    model: Gemma4,
    demand: Demand,
    max_context: int | None,
    prompt: int,
    media: Sequence[Foretold] = (),
) -> int:
    """How many tokens a prompt of `prompt` tokens and its answer may have together: all
    that the model reads, or `max_context`, or what fits in memory.

    media: what is seen and heard of the prompt, in whose tokens it is included.

    Raises RoomError where the prompt does not fit, or `max_context` does not,
    ContextError where the prompt is longer than it or than what the model reads, and
    ChatError for a `max_context` that is none.
    """
    own, room = demand.config.max_position_embeddings, room_of(model)
    check_max_context(max_context, own)
    wanted = max_context or own
    if prompt >= wanted:
        allowed, remedy = f"{wanted - 1:,}", "Shorten it or start a new conversation."
        if wanted < own:
            allowed += f" where --max-context (max_context) is {wanted:,}"
            remedy = "Shorten it, or allow more."
        raise ContextError(
            f"The prompt has {prompt:,} tokens{named(media)}; it may have at most "
            f"{allowed}. {remedy}{less(media)}",
            (prompt, wanted - 1),
        )
    demand = with_media(demand, model, media)
    most = demand.most(room.limit, wanted)
    if most == wanted:
        return wanted
    if max_context is not None:
        said = f"A context of {wanted:,} tokens"
    elif prompt >= most:
        said, wanted = f"The prompt of {prompt:,} tokens{named(media)}", prompt + 1
    else:
        return most
    error = refusal(said, demand, wanted, room, _table_bytes(model))
    raise RoomError(f"{error}{less(media)}")


def with_media(demand: Demand, model: Gemma4, media: Sequence[Foretold]) -> Demand:
    """The same, where these are seen and heard."""
    blocks: list[Block] = [(m.kind, tokens) for m in media for tokens in m.blocks]
    return replace(demand, media=media_bytes(model.config, blocks, demand.dtype))


def of_spans(spans: Sequence[Span]) -> list[Foretold]:
    """The media of a prompt that has been read."""
    return [Foretold(span.kind, (span.end - span.start,)) for span in spans]


def room_for(model: Gemma4, kv_bits: int | None, max_context: int | None) -> Fits:
    """`context_for` of a conversation with `model`."""
    demand = demand_of(model, step_for(model), kv_bits)
    return partial(context_for, model, demand, max_context)


def _table_bytes(model: Gemma4) -> int:
    """Of a table of per-layer embeddings that is in memory."""
    text = model.language_model
    table = text.embed_tokens_per_layer if text.per_layer_size else None
    return weights_bytes(table) if isinstance(table, nn.Module) else 0


def within_memory(
    steps: Steps[Chunk, None], forget: Callable[[], None]
) -> Steps[Chunk, None]:
    """`steps`; where memory runs out under them, `forget` gives up what caches hold,
    and a RoomError says so: the next answer can be tried."""
    try:
        yield from steps
        return
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RoomError) or not is_out_of_memory(error):
            raise
    # Only here: while it is handled, the error keeps what was being computed.
    forget()
    mx.clear_cache()
    raise RoomError(RAN_OUT)
