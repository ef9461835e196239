"""The media of a run: read once, and kept for every pass as far as they fit."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from ..media import Kind
from ..prompt.attachments import Attachments, Prepared, media_parts
from ..prompt.processor import Processor

KEPT = 2**29  # bytes: some 70 pictures of 280 soft tokens, or 350 half minutes of sound


class MediaStore:
    """Reads media for prompts, and keeps those that it reads first.

    A pass comes to all of them in an order of its own, so that none is worth more than
    another. Those beyond KEPT bytes are read from their files each time.
    """

    def __init__(self, processor: Processor, image_tokens: int | None = None):
        self.processor, self.image_tokens = processor, image_tokens
        self.nbytes = 0
        self._kept: dict[str, Prepared] = {}

    def attach(self, messages: Sequence[Mapping[str, Any]]) -> Attachments:
        """The media of a conversation. Raises MediaError as the processor does."""
        ready = [
            {"content": [self._ready(kind, part) for kind, part in media_parts(each)]}
            for each in messages
        ]
        return self.processor.attach(ready, self.image_tokens)

    def _ready(self, kind: Kind, part: Mapping[str, Any]) -> dict[str, Any]:
        key = _key(part)
        medium = self._kept.get(key)
        if medium is None:
            medium = self.processor.prepare(part, self.image_tokens)
            arrays = [array for each in medium.attached for array in each.medium]
            size = sum(array.nbytes for array in arrays)
            if self.nbytes + size <= KEPT:
                self._kept[key] = medium
                self.nbytes += size
        return {"type": kind, kind: medium}


def _key(part: Mapping[str, Any]) -> str:
    """File and options of a part; contents by their digest."""
    short = {k: sha256(v).digest() if type(v) is bytes else v for k, v in part.items()}
    return repr(sorted(short.items()))
