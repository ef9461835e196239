"""What can go wrong, by kind. The command line maps each kind to an exit code."""


class ModelNotFoundError(OSError):
    """The model is neither a folder, nor reachable on the Hub, nor built in."""


class CheckpointError(ValueError):
    """The model's files are there, but incomplete, damaged or contradictory."""


class ChatError(ValueError):
    """Messages, tools or chat options that cannot be turned into a prompt."""


class ContextError(ChatError):
    """A prompt that is longer than what the model reads."""


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


class BenchError(ValueError):
    """A measurement that a model or this machine does not allow."""


class PeerError(RuntimeError):
    """Another program that was to be measured failed."""
