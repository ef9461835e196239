"""Loading a model to chat with: what cannot, and a context that does not fit beside its
weights, is refused before these are read."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_gemma4.config.ple import Ple
from mlx_gemma4.device import Room, memory_limit
from mlx_gemma4.reading.sizes import size

from ..drafts import OFF

if TYPE_CHECKING:
    from mlx_gemma4 import Gemma4, Processor
    from mlx_gemma4.checkpoint.load import Prepared


def load_to_chat(
    name: str,
    note: Callable[[str], None] | None = None,
    drafter: Path | str | None = OFF,
    ple: Ple = Ple.AUTO,
    max_context: int | None = None,
    kv_bits: int | None = None,
) -> tuple["Gemma4", "Processor"]:
    """As mlx_gemma4.load, but what cannot chat is refused before its weights.

    note: is told of a check of the kernels; None leaves them off.
    drafter, ple: as `draft` and `ple` of mlx_gemma4.load.
    max_context, kv_bits: as of stream_generate. Raises RoomError where such a context
        does not fit beside the weights.
    """
    from mlx_gemma4.checkpoint.load import give_drafter, prepare, recall_kernels

    prepared, processor = prepare(name, to_chat=True, ple=ple)
    if note is not None:
        from mlx_gemma4.bench.auto import check_if_new

        check_if_new(prepared, note)
    if (fits := check_room(prepared, max_context, kv_bits)) is not None and note:
        note(fits)
    model = prepared.load()
    if note is not None:
        recall_kernels(prepared)
    give_drafter(model, prepared.folder, drafter)
    return model, processor


def check_room(
    prepared: "Prepared",
    max_context: int | None,
    kv_bits: int | None,
    room: Room | None = None,
) -> str | None:
    """Says where less fits beside the weights than the model can read. Raises RoomError
    where `max_context` does not fit, ChatError for more than the model reads. `room` is
    not that here where another process has less."""
    from mlx_gemma4.decoding.prefill import step_for
    from mlx_gemma4.decoding.prefix import PINS
    from mlx_gemma4.generation.room import check_max_context
    from mlx_gemma4.memory.estimate import Demand
    from mlx_gemma4.memory.refusal import refusal

    room = room or Room(prepared.room.weights, memory_limit())
    config = prepared.text_config
    table = 0 if prepared.table_on_disk else prepared.footprint.table
    step = step_for(prepared.plan.model)
    demand = Demand(config, room.weights, prepared.dtype, step, PINS, kv_bits)
    own = config.max_position_embeddings
    check_max_context(max_context, own)
    wanted = max_context or own
    most = demand.most(room.limit, wanted)
    if most == wanted or room.weights > room.limit:  # which is refused in other words
        return None
    if max_context is not None:
        said = f"A context of {wanted:,} tokens"
        raise refusal(said, demand, wanted, room, table)
    return (
        f"The model reads {own:,} tokens, but only {most:,} fit in memory "
        f"{room.where}: {demand.at(own)} of {size(room.limit)}."
    )
