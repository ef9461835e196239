"""The process that runs the command: it has the others load a model as it does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlx_gemma4.cache import WATCHERS
from mlx_gemma4.checkpoint.load import prepare
from mlx_gemma4.config.ple import Ple
from mlx_gemma4.errors import ChatError, ShardError
from mlx_gemma4.processes.channel import open_group
from mlx_gemma4.processes.door import meet
from mlx_gemma4.processes.lead import Lead
from mlx_gemma4.processes.names import Op
from mlx_gemma4.reading.home import with_home
from mlx_gemma4.reading.sizes import size

from .identity import difference, identity

if TYPE_CHECKING:
    from mlx_gemma4 import Gemma4, Processor

Note = Callable[[str], None]


@contextmanager
def open_lead() -> Iterator[Lead]:
    group = open_group()
    lead = Lead(group, meet(group))
    WATCHERS.append(lead)
    try:
        yield lead
    finally:
        WATCHERS.remove(lead)
        lead.end()


def load_together(
    lead: Lead, name: str, note: Note, ple: Ple
) -> "tuple[Gemma4, Processor]":
    """As load_to_chat, of this process's part; the others load theirs meanwhile.

    Raises ShardError where one of them has not the same model, or the same versions.
    """
    prepared, processor = prepare(name, to_chat=True, ple=ple)
    told = name
    if with_home(name).is_dir():  # not what a hub's name stands for here
        told = str(with_home(name).resolve())
    ours = identity(prepared)
    asked = {"op": Op.LOAD, "name": told, "dtype": ours["dtype"]}
    asked["ple"] = Ple.DISK if prepared.table_on_disk else Ple.MEMORY
    for rank, theirs in enumerate(lead.ask(asked), 1):
        if "problem" in theirs:
            raise ShardError(f"Rank {rank}: {theirs['problem']}")
        if wrong := difference(ours, theirs):
            raise ShardError(f"Rank {rank} has {wrong}: all need the same.")
    own = prepared.shared_by(lead.group)
    lead.tell({"op": Op.FILL})
    model = own.load()
    lead.ask({"op": Op.READY})
    model.lead = lead
    if own.part is not None:
        text = model.config.text_config
        lead.part = own.part.plan.config_of_part(text)
    whole, ranks = prepared.footprint.nbytes, lead.group.size()
    note(
        f"{name} in {ranks} processes: {size(model.nbytes)} of {size(whole)} here. "
        "Drafts and Metal kernels of our own are off."
    )
    for why in own.part.plan.whole if own.part else ():
        note(f"Whole in each process: {why} cannot be cut.")
    return model, processor


def check_alone(adapter: object, draft: str | None) -> None:
    """Raises ChatError for what several processes cannot do."""
    if adapter is not None:
        raise ChatError(
            "An adapter does not go with several processes: make one model of both "
            "with gemma4 tune fuse."
        )
    if draft not in (None, "off", "auto"):
        raise ChatError(
            f"--draft {draft} does not go with several processes: leave it out."
        )
