"""Conversations that clients go on with by the id of a response."""

import json
import threading
from typing import Any

from ...serve.errors import Refused

MOST = 100  # responses
MOST_BYTES = 100_000_000  # of their items, as JSON


class Kept:
    """The last conversations, in memory only; for any number of threads."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._items: dict[str, list[Any]] = {}
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()

    def keep(self, response: str, items: list[Any]) -> None:
        """items: all of the conversation, the response's output at the end."""
        size = len(json.dumps(items))
        with self._lock:
            self._items[response], self._sizes[response] = items, size
            while self._items and (
                len(self._items) > self._most
                or sum(self._sizes.values()) > self._most_bytes
            ):
                oldest = next(iter(self._items))
                del self._items[oldest], self._sizes[oldest]

    def items(self, response: Any) -> list[Any]:
        """Raises Refused for one that is not kept, or not any more."""
        with self._lock:
            found = self._items.get(response) if isinstance(response, str) else None
        if found is None:
            raise Refused(
                400,
                f"There is no response {response!r} here any more: the last "
                f"{self._most} are kept, until the server stops. Send the "
                "conversation as input.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        return found
