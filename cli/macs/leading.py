"""The process that runs the command: it has the others load a model as it does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlx_gemma4.cache import WATCHERS
from mlx_gemma4.checkpoint.load import Prepared, prepare
from mlx_gemma4.config.ple import Ple
from mlx_gemma4.device import Room
from mlx_gemma4.errors import ChatError
from mlx_gemma4.processes.channel import open_group
from mlx_gemma4.processes.door import meet
from mlx_gemma4.processes.lead import Lead
from mlx_gemma4.processes.names import Op
from mlx_gemma4.processes.stopping import heard_at_once
from mlx_gemma4.reading.home import with_home
from mlx_gemma4.reading.sizes import size

from ..errors import MODEL, RankError
from .identity import difference, identity

if TYPE_CHECKING:
    from mlx_gemma4 import Gemma4, Processor

Note = Callable[[str], None]
Fits = Callable[[Prepared, Room], str | None]


@contextmanager
def open_lead() -> Iterator[Lead]:
    group = open_group()
    lead = Lead(group, meet(group))
    WATCHERS.append(lead)
    try:
        with heard_at_once(lead.pressed):
            yield lead
    finally:
        WATCHERS.remove(lead)
        lead.end()


def load_together(
    lead: Lead,
    name: str,
    note: Note,
    ple: Ple,
    fits: Fits,
) -> "tuple[Gemma4, Processor]":
    """As load_to_chat, of this process's part; the others load theirs meanwhile.

    fits: says what does not fit in the memory of the process that has the least.
    Raises RankError where one of them cannot, or has not the same model or versions.
    """
    prepared, processor = prepare(name, to_chat=True, ple=ple)
    own = prepared.shared_by(lead.group)
    lead.room = agreed(lead, own, told_name(name))
    own.check_memory()
    if (told := fits(own, lead.room)) is not None:
        note(told)
    lead.tell({"op": Op.FILL})
    model = own.load()
    lead.ask({"op": Op.READY})
    model.lead, lead.part = lead, own.text_config
    whole, ranks = prepared.footprint.nbytes, lead.group.size()
    note(
        f"{name} in {ranks} processes: {size(model.nbytes)} of {size(whole)} here. "
        "Drafts and Metal kernels of our own are off."
    )
    for why in own.part.plan.whole if own.part else ():
        note(f"Whole in each process: {why} cannot be cut.")
    return model, processor


def told_name(name: str) -> str:
    """The same to others: a folder that is here is not what a hub's name stands for."""
    return str(with_home(name).resolve()) if with_home(name).is_dir() else name


def agreed(lead: Lead, own: Prepared, name: str) -> Room:
    """Has the others look at what they will load. The room of the one that has the
    least. Raises RankError."""
    ours, room = identity(own), own.room
    asked = {"op": Op.LOAD, "name": name, "dtype": ours["dtype"]}
    asked["ple"] = Ple.DISK if own.table_on_disk else Ple.MEMORY
    for rank, theirs in zip(lead.names, lead.ask(asked), strict=True):
        if "problem" in theirs:
            raise RankError(f"{rank}: {theirs['problem']}", theirs["code"])
        if wrong := difference(ours, theirs):
            raise RankError(f"{rank} has {wrong}: all need the same.", MODEL)
        other = Room(theirs["taken"], theirs["limit"], f"on {rank}")
        room = min(room, other, key=lambda each: each.limit - each.weights)
    return room


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
