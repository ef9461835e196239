"""An answer as the items of a response, and the events that tell of them as they come.

The order is that of OpenAI's API: an item is added, its part is added, deltas, the text
whole, the part whole, the item whole.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ..sealed import seal
from .declared import Name

if TYPE_CHECKING:
    from mlx_gemma4 import Chunk, ToolCall

Event = dict[str, Any]


@dataclass(frozen=True)
class Spoken:
    """How text of a kind is told: in an item of which type, in parts of which, under
    which names of events, and by what the parts are counted."""

    item: str
    prefix: str
    holds: str
    part: str
    text: str
    around: str
    place: str


MESSAGE = Spoken(
    *("message", "msg", "content", "output_text"),
    *("response.output_text", "response.content_part", "content_index"),
)
THOUGHT = Spoken(
    *("reasoning", "rs", "content", "reasoning_text"),
    *("response.reasoning_text", "response.content_part", "content_index"),
)
SUMMARY = Spoken(
    *("reasoning", "rs", "summary", "summary_text"),
    *("response.reasoning_summary_text", "response.reasoning_summary_part"),
    "summary_index",
)


class Written:
    """Takes chunks; `items` are the response's output as far as it came.

    summarized: thoughts are given as summaries, which clients show, instead of as they
        are. sealed: they are also given in the form that clients keep and send back.
    """

    def __init__(
        self, names: Mapping[str, Name], summarized: bool = False, sealed: bool = False
    ) -> None:
        self.items: list[dict[str, Any]] = []
        self._names = names
        self._thought = SUMMARY if summarized else THOUGHT
        self._sealed = sealed
        self._spoken: Spoken | None = None  # of the item that is open
        self._text = ""

    def take(self, chunk: "Chunk") -> Iterator[Event]:
        if chunk.thought:
            yield from self._say(self._thought, chunk.thought)
        if chunk.text:
            yield from self._say(MESSAGE, chunk.text)
        for call in chunk.tool_calls:
            yield from self.close()
            yield from self._call(call)

    def close(self, status: str = "completed") -> Iterator[Event]:
        """Ends the item that is open. status: "incomplete" where it was cut."""
        if (spoken := self._spoken) is None:
            return
        item, part = self.items[-1], self._part(spoken, self._text)
        yield self._about(f"{spoken.text}.done", {"text": self._text}, spoken)
        yield self._about(f"{spoken.around}.done", {"part": part}, spoken)
        item[spoken.holds] = [part]
        if spoken is MESSAGE:
            item["status"] = status
        elif self._sealed:
            item["encrypted_content"] = seal(self._text)
        self._spoken, self._text = None, ""
        yield self._item("done")

    def _say(self, spoken: Spoken, text: str) -> Iterator[Event]:
        if self._spoken is not spoken:
            yield from self.close()
            yield from self._open(spoken)
        self._text += text
        yield self._about(f"{spoken.text}.delta", {"delta": text}, spoken)

    def _open(self, spoken: Spoken) -> Iterator[Event]:
        item: dict[str, Any] = {"type": spoken.item, "id": new_id(spoken.prefix)}
        if spoken is MESSAGE:
            item |= {"status": "in_progress", "role": "assistant", "content": []}
        else:
            item |= {"summary": []}
        self._spoken = spoken
        self.items.append(item)
        yield self._item("added")
        part = self._part(spoken, "")
        yield self._about(f"{spoken.around}.added", {"part": part}, spoken)

    def _call(self, call: "ToolCall") -> Iterator[Event]:
        name = self._names.get(call.name, Name(call.name))
        if name.custom:
            kind, prefix, key = "custom_tool_call", "ctc", "input"
            given = _input(call.arguments)
            told = "response.custom_tool_call_input"
        else:
            kind, prefix, key = "function_call", "fc", "arguments"
            given = json.dumps(call.arguments, ensure_ascii=False)
            told = "response.function_call_arguments"
        item = {"type": kind, "id": new_id(prefix), "status": "in_progress"}
        item |= {"call_id": new_id("call"), "name": name.name, key: ""}
        if name.namespace:
            item["namespace"] = name.namespace
        self.items.append(item)
        yield self._item("added")
        yield self._about(f"{told}.delta", {"delta": given})
        item |= {key: given, "status": "completed"}
        yield self._about(f"{told}.done", {key: given})
        yield self._item("done")

    def _item(self, what: str) -> Event:
        """The last item as it is now: events are written later than it changes."""
        event = {"type": f"response.output_item.{what}", "item": dict(self.items[-1])}
        return {**event, "output_index": len(self.items) - 1}

    def _about(
        self, kind: str, what: Mapping[str, Any], spoken: Spoken | None = None
    ) -> Event:
        """An event about the last item, and about its part where it has text."""
        event = {"type": kind, "item_id": self.items[-1]["id"], **what}
        event["output_index"] = len(self.items) - 1
        if spoken is not None:
            event[spoken.place] = 0
            if kind.startswith(MESSAGE.text):
                event["logprobs"] = []
        return event

    def _part(self, spoken: Spoken, text: str) -> dict[str, Any]:
        part: dict[str, Any] = {"type": spoken.part, "text": text}
        if spoken is MESSAGE:
            part |= {"annotations": [], "logprobs": []}
        return part


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid4().hex}"


def _input(arguments: Mapping[str, Any]) -> str:
    """The text of a custom tool, however the model called it."""
    text = arguments.get("input")
    if isinstance(text, str) and len(arguments) == 1:
        return text
    return json.dumps(arguments, ensure_ascii=False)
