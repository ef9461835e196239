"""What can go wrong with the result."""


class OutputError(OSError):
    """The result cannot be written: no space, no permission, or in the way."""
