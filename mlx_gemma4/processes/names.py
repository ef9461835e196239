"""What processes tell each other."""

from enum import StrEnum


class Op(StrEnum):
    LOAD = "load"
    FILL = "fill"
    READY = "ready"
    HIDDEN = "hidden"
    TOGETHER = "together"
    PIN = "pin"
    RESTORE = "restore"
    COPY = "copy"
    END = "end"
    ABORT = "abort"  # another one is gone
    BEAT = "beat"  # of all: that they live
