"""What can go wrong, by kind. The command line maps each kind to an exit code."""


class ModelNotFoundError(OSError):
    """The model is neither a folder, nor reachable on the Hub, nor built in."""


class CheckpointError(ValueError):
    """The model's files are there, but incomplete, damaged or contradictory."""


class ChatError(ValueError):
    """Messages, tools or chat options that cannot be turned into a prompt."""


class MediaError(ValueError):
    """A picture, recording or video that cannot be read or is not understood."""


class UnknownFormatError(MediaError):
    """A file that is none of the formats that can be read, whatever its name says."""


class DataError(ValueError):
    """Examples or text of the user's own that cannot be used."""


class DiskFullError(OSError):
    """What was to be written does not fit on its disk."""


class CacheError(ValueError):
    """A rollback or restore that could not be exact, and was therefore refused."""


class BenchError(ValueError):
    """A measurement that a model or this machine does not allow."""


class PeerError(RuntimeError):
    """Another program that was to be measured failed."""
