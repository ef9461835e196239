"""What can go wrong, by kind. The command line maps each kind to an exit code."""

import sys
from pathlib import Path


class ModelNotFoundError(OSError):
    """The model is neither a folder, nor reachable on the Hub, nor built in."""


class CheckpointError(ValueError):
    """The model's files are there, but incomplete, damaged or contradictory."""


class ChatError(ValueError):
    """Messages, tools or chat options that cannot be turned into a prompt."""


class ContextError(ChatError):
    """A prompt that is longer than what the model reads.

    counts: the tokens that it has and may have, where they were counted.
    """

    def __init__(self, message: str, counts: tuple[int, int] | None = None) -> None:
        super().__init__(message)
        self.counts = counts


class RoomError(MemoryError):
    """A model or a context that does not fit in memory, told with what would help."""


class MediaError(ValueError):
    """A picture, recording or video that cannot be read or is not understood."""


class UnknownFormatError(MediaError):
    """A file that is none of the formats that can be read, whatever its name says."""


class DataError(ValueError):
    """Examples or text of the user's own that cannot be used."""


class DiskFullError(OSError):
    """What was to be written does not fit on its disk."""


class BusyError(OSError):
    """A folder that another process is writing."""


class TakenError(ValueError):
    """A folder to make that is there already with something in it, or is a file."""


class CacheError(ValueError):
    """A rollback or restore that could not be exact, and was therefore refused."""


class ShardError(RuntimeError):
    """Several processes that cannot hold a model together."""


class BenchError(ValueError):
    """A measurement that a model or this machine does not allow."""


class PeerError(RuntimeError):
    """Another program that was to be measured failed."""


# What MLX says where memory is refused; it raises a plain RuntimeError.
OUT_OF_MEMORY = (
    "[malloc",
    "[metal::malloc]",
    "Unable to allocate",
    "Insufficient Memory",
    "out of memory",  # of CUDA
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out in the middle of something."""
    if isinstance(error, RuntimeError):
        return any(words in str(error) for words in OUT_OF_MEMORY)
    return isinstance(error, MemoryError)


def install_command(what: str) -> str:
    """The command that adds the packages of an extra, or a package, to the environment
    that runs this, whichever tool made it."""
    import shlex
    from importlib.metadata import PackageNotFoundError, requires
    from importlib.util import find_spec

    try:
        stated = [each.partition(";") for each in requires("mlx-gemma4") or ()]
    except PackageNotFoundError:  # it runs from a clone
        stated = []
    of_extra = (f'extra == "{what}"', f"extra == '{what}'")
    packages = [name.strip() for name, _, when in stated if when.strip() in of_extra]
    named = shlex.join(packages or [what])
    if Path(sys.prefix, "pipx_metadata.json").exists():
        return f"pipx inject mlx-gemma4 {named}"
    python = shlex.quote(sys.executable)
    if find_spec("pip") is None:  # as where uv made it
        return f"uv pip install --python {python} {named}"
    return f"{python} -m pip install {named}"
