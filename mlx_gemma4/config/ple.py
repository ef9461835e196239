"""Where a model's table of per-layer embeddings (PLE) is while it runs."""

from enum import StrEnum

COMFORT = 2 / 3  # of the memory a model may use: with more, answers get tight


class Ple(StrEnum):
    """In memory; on disk, from where the rows of each token are read; or whichever."""

    AUTO = "auto"
    MEMORY = "memory"
    DISK = "disk"

    def on_disk(self, table: int, whole: int, limit: int) -> bool:
        """Whether it stays on disk; by itself where the model is tight with it.

        table: its bytes. whole: those of all weights. limit: what a model may use.
        """
        if self is Ple.AUTO:
            return table > 0 and whole > COMFORT * limit
        return table > 0 and self is Ple.DISK

    def least(self, table: int, whole: int) -> int:
        """How many of these bytes are in memory at least, however little there is."""
        return whole if self is Ple.MEMORY else whole - table
