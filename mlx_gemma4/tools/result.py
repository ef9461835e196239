"""What a call came to, as the model is told."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum
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

    @classmethod
    def of(cls, value: Any) -> "Result":
        """What a tool has returned: a text is itself, all else JSON.

        Raises what JSON or `value` raises where it cannot be written.
        """
        if isinstance(value, Result):
            return value
        if isinstance(value, str):
            return cls(value)
        from PIL import Image

        if isinstance(value, Image.Image):
            return cls("This picture:", media=[{"type": "image", "image": value}])
        return cls(json.dumps(value, default=plain, ensure_ascii=False))

    def message(self, call_id: str) -> dict[str, Any]:
        """The message of role `tool` that answers the call of this id."""
        parts = [{"type": "text", "text": self.text}, *map(dict, self.media)]
        content = parts if self.media else self.text
        return {"role": "tool", "tool_call_id": call_id, "content": content}


def plain(value: Any) -> Any:
    """For what JSON does not have, what stands for it there."""
    if isinstance(value, Enum):
        return word(value)
    if hasattr(value, "tolist"):  # arrays
        return value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        raise TypeError("bytes are no text")
    return list(value) if isinstance(value, Iterable) else str(value)


def word(member: Enum) -> Any:
    """What a member is called: its value where that is a text, else its name."""
    return member.value if isinstance(member.value, str) else member.name
