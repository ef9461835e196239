"""Another process than the first: it has no terminal, and does what that one tells."""

import signal
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import mlx.core as mx
import typer

from mlx_gemma4.checkpoint.load import Prepared, prepare_model
from mlx_gemma4.config.ple import Ple
from mlx_gemma4.errors import CheckpointError, ModelNotFoundError
from mlx_gemma4.hub.resolve import local_folder
from mlx_gemma4.processes.channel import Outgoing, open_group
from mlx_gemma4.processes.door import meet
from mlx_gemma4.processes.follow import Follower
from mlx_gemma4.processes.hearing import beat, inbox
from mlx_gemma4.processes.names import Op

from ..errors import exit_code, explain, wants_tracebacks
from .identity import identity

if TYPE_CHECKING:
    from queue import SimpleQueue

    from mlx_gemma4.processes.channel import Message


def follow() -> None:
    """Until the first process is done, which says what goes wrong here."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it hears Ctrl-C for all
    warnings.simplefilter("ignore", UserWarning)  # it says them
    group = open_group()
    (first,) = meet(group)
    messages, out = inbox(first, speaks=group.rank() == 1), Outgoing([first])
    beat(out)
    try:
        _obey(out, messages, group)
    except Exception as error:
        told, code = _told(error)
        out.send({"failed": told, "code": code})
        if wants_tracebacks():
            raise
        raise typer.Exit(code) from None


def _obey(
    out: Outgoing, messages: "SimpleQueue[Message]", group: mx.distributed.Group
) -> None:
    prepared, follower = None, None
    message = messages.get()
    while message["op"] != Op.END:
        match message["op"]:
            case Op.LOAD:
                prepared = follower = None  # the weights of another go first
                try:
                    prepared = _prepared(message).shared_by(group)
                    prepared.check_memory()
                    own, room = identity(prepared), prepared.room
                    out.send({**own, "taken": room.weights, "limit": room.limit})
                except Exception as error:
                    told, code = _told(error)
                    out.send({"problem": told, "code": code})
            case Op.FILL if prepared is not None:
                follower = Follower(prepared.load(), group)
            case Op.READY:
                out.send({})
        message = follower.run(messages) if follower else messages.get()


def _told(error: Exception) -> tuple[str, int]:
    """In a line, and with the exit code."""
    code = exit_code(error)
    return " ".join(filter(None, explain(error, code))), code


def _prepared(told: "Message") -> Prepared:
    name = told["name"]
    folder = local_folder(name)
    if folder is None or not Path(folder, "config.json").is_file():
        own = Path(name).is_absolute()
        remedy = "copy the folder there" if own else f"gemma4 pull {name} gets it"
        raise ModelNotFoundError(f"{name} is not here: {remedy}.")
    try:
        dtype = getattr(mx, told["dtype"])
        return prepare_model(folder, dtype, ple=Ple(told["ple"]))
    except CheckpointError as error:
        if str(folder) in str(error):
            raise
        raise CheckpointError(f"{folder}: {error}") from None
