"""Channels of a recording to one: what is said in it stays, wherever it was put.

Films have their dialogue in the centre channel and noise all round: where it is known
which channel is which, they are weighed as FFmpeg's and the ITU's downmix do, without
the one for low effects. Two channels of opposite phase, a fault of cables, would cancel
each other out: of these the difference is taken.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from soundfile import SoundFile

# In the order of the bits of a wav file's channel mask, by FFmpeg's names.
MASK = ("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR")
FLAC = {
    3: ("FL", "FR", "FC"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
VORBIS = {  # and Opus, which libsndfile does not reorder
    3: ("FL", "FC", "FR"),
    5: ("FL", "FC", "FR", "BL", "BR"),
    6: ("FL", "FC", "FR", "BL", "BR", "LFE"),
    7: ("FL", "FC", "FR", "SL", "SR", "BC", "LFE"),
    8: ("FL", "FC", "FR", "SL", "SR", "BL", "BR", "LFE"),
}
WEIGHTS = {"FC": 1.0, "LFE": 0.0, "LFE2": 0.0}
WEIGHTS |= dict.fromkeys(("FL", "FR", "FLC", "FRC"), 0.5**0.5)
AROUND = 0.5  # of all others
CANCELLED = 0.01  # of the channels' power, left in their sum: 20 dB less
MEMORY = 1.0  # seconds after which what was heard counts half


def channel_names(sound: "SoundFile", start: bytes) -> Sequence[str]:
    """Which channel of an opened file is which; nothing if nobody says. `start` is the
    beginning of the file, which holds a wav file's mask."""
    if sound.format == "FLAC":
        return FLAC.get(sound.channels, ())
    if sound.format == "OGG":
        return VORBIS.get(sound.channels, ())
    at = start.find(b"fmt ")
    if sound.format != "WAVEX" or at < 0:
        return ()
    mask = int.from_bytes(start[at + 28 : at + 32], "little")
    names = [name for bit, name in enumerate(MASK) if mask >> bit & 1]
    return names if len(names) == sound.channels and mask < 1 << len(MASK) else ()


class Downmix:
    """Makes the blocks of a recording mono, one after the other."""

    def __init__(self) -> None:
        self._power = 0.0  # of two channels, lately
        self._left = 0.0  # of their mean

    def mono(
        self, block: np.ndarray, rate: float, names: Sequence[str] = ()
    ) -> np.ndarray:
        """A block `[n, channels]` as float32 `[n]`; `names` of its channels, if known.

        Unknown channels are averaged.
        """
        if "FC" in names or "LFE" in names:
            weights = np.array([WEIGHTS.get(n, AROUND) for n in names], np.float32)
            if weights.any():
                return (block @ (weights / weights.sum())).astype(np.float32)
        mean = block.mean(axis=1, dtype=np.float32)
        if block.shape[1] != 2:
            return mean
        kept = 0.5 ** (len(block) / rate / MEMORY)
        self._power = kept * self._power + float(np.square(block).mean(1).sum())
        self._left = kept * self._left + float(np.square(mean).sum())
        if self._left >= CANCELLED * self._power:
            return mean
        return ((block[:, 0] - block[:, 1]) / 2).astype(np.float32)
