"""Another process than the first: it has no terminal, and does what that one tells."""

import signal
import socket
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import mlx.core as mx

from mlx_gemma4.checkpoint.load import Prepared, prepare_model
from mlx_gemma4.config.ple import Ple
from mlx_gemma4.errors import CheckpointError, ModelNotFoundError
from mlx_gemma4.hub.resolve import local_folder
from mlx_gemma4.processes.channel import inbox, open_group, send
from mlx_gemma4.processes.door import meet
from mlx_gemma4.processes.follow import Follower
from mlx_gemma4.processes.names import Op

from .identity import identity

if TYPE_CHECKING:
    from queue import SimpleQueue

    from mlx_gemma4.processes.channel import Message

LOST = "The first process is gone: all end."


def follow() -> None:
    """Until the first process is done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it hears Ctrl-C for all
    warnings.simplefilter("ignore", UserWarning)  # it says them
    group = open_group()
    (first,) = meet(group)
    messages = inbox(first, LOST if group.rank() == 1 else None)
    try:
        _obey(first, messages, group)
    except Exception as error:
        send(first, {"failed": f"{type(error).__name__}: {error}"})
        raise


def _obey(
    first: socket.socket,
    messages: "SimpleQueue[Message]",
    group: mx.distributed.Group,
) -> None:
    prepared, follower = None, None
    message = messages.get()
    while message["op"] != Op.END:
        match message["op"]:
            case Op.LOAD:
                prepared = follower = None  # the weights of another go first
                try:
                    prepared = _prepared(message)
                    send(first, identity(prepared))
                except (OSError, ValueError) as error:
                    send(first, {"problem": str(error)})
            case Op.FILL if prepared is not None:
                model = prepared.shared_by(group).load()
                follower = Follower(model, group)
            case Op.READY:
                send(first, {})
        message = follower.run(messages) if follower else messages.get()


def _prepared(told: "Message") -> Prepared:
    name = told["name"]
    folder = local_folder(name)
    if folder is None or not Path(folder, "config.json").is_file():
        raise ModelNotFoundError(f"{name} is not here: gemma4 pull {name} gets it.")
    try:
        dtype = getattr(mx, told["dtype"])
        return prepare_model(folder, dtype, ple=Ple(told["ple"]))
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None
