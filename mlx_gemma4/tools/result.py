"""What a call came to, as the model is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Result:
    """What the model is told of a call.

    text: a text, or JSON; of an error, what is wrong and what can be done.
    media: parts of a message with pictures or sound, `{"type": "image", "image": …}`.
    """

    text: str
    is_error: bool = False
    media: Sequence[Mapping[str, Any]] = ()

    def message(self, call_id: str) -> dict[str, Any]:
        """The message of role `tool` that answers the call of this id."""
        parts = [{"type": "text", "text": self.text}, *map(dict, self.media)]
        content = parts if self.media else self.text
        return {"role": "tool", "tool_call_id": call_id, "content": content}
