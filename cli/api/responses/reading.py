"""A request's instructions and input items, as the messages that the library takes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...serve.errors import Refused
from ...serve.media import MediaRules
from ..parts import joined, open_calls, with_one_system
from ..sealed import unsealed
from .declared import Name

Message = dict[str, Any]

TEXTS = {
    **dict.fromkeys(("input_text", "output_text", "text"), "text"),
    "refusal": "refusal",
}
SYSTEM = ("system", "developer")
ROLES = (*SYSTEM, "user", "assistant")
CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
OUTPUTS = ("function_call_output", "custom_tool_call_output")


def messages_of(
    instructions: str | None, items: Sequence[Any], media: MediaRules
) -> list[Message]:
    """A conversation that begins with one system message, as the template knows it.

    An answer's items follow each other as messages in their order, which is how the
    model wrote them. Raises Refused that names the item, and MediaError.
    """
    reader = _Reader(media)
    if instructions:
        reader.add({"role": "system", "content": instructions})
    for i, item in enumerate(items):
        reader.read(item, f"input[{i}]")
    return reader.whole()


class _Reader:
    """Collects messages. Results stand behind their calls, whatever came between."""

    def __init__(self, media: MediaRules) -> None:
        self._media = media
        self._messages: list[Message] = []
        self._results: dict[int, list[Message]] = {}  # by the place of the call
        self._places: dict[str, int] = {}  # of calls, by their ids
        self._thought: str | None = None

    def read(self, item: Any, where: str) -> None:
        if not isinstance(item, Mapping):
            raise Refused(400, f"{where} must be an object.", param=where)
        stated = item.get("type")
        kind = "message" if stated is None else str(stated)
        if kind == "message":
            self._said(item, where)
        elif kind == "reasoning":
            self._thought = "\n".join(filter(None, (self._thought, _thought(item))))
        elif kind in CALLS:
            self._called(item, CALLS[kind], where)
        elif kind in OUTPUTS:
            self._resulted(item, where)
        else:
            raise Refused(
                400,
                f"{where} is of type {kind!r}, which is not understood here: known are "
                f"message, reasoning, {', '.join((*CALLS, *OUTPUTS))}.",
                param=where,
            )

    def whole(self) -> list[Message]:
        self._let_thought_stand()
        found = []
        for place, message in enumerate(self._messages):
            found += [message, *self._results.get(place, ())]
        if waiting := open_calls(found):
            raise Refused(
                400,
                f"input has no output of {', '.join(waiting):.200}: a call needs one.",
                param="input",
            )
        return with_one_system(found)

    def add(self, message: Message) -> None:
        if message["role"] == "assistant":
            if self._thought:
                message["reasoning"] = self._thought
            self._thought = None
        else:
            self._let_thought_stand()
        self._messages.append(message)

    def _let_thought_stand(self) -> None:
        """A thought that nothing came of is an answer of its own."""
        if self._thought:
            thought, self._thought = self._thought, None
            said = {"role": "assistant", "content": "", "reasoning": thought}
            self._messages.append(said)

    def _said(self, item: Mapping[str, Any], where: str) -> None:
        role = item.get("role")
        if role not in ROLES:
            raise Refused(400, f"{where} has role {role!r}.", param=f"{where}.role")
        content = self._content(item.get("content"), f"{where}.content")
        if role in SYSTEM:
            role = "system"
            if not isinstance(content, str):
                raise Refused(400, f"{where}: a {role} message is text.", param=where)
        self.add({"role": role, "content": content})

    def _called(self, item: Mapping[str, Any], key: str, where: str) -> None:
        name, given, call = item.get("name"), item.get(key), item.get("call_id")
        if not all(isinstance(value, str) for value in (name, given, call)):
            raise Refused(
                400,
                f"{where} must have name, {key} and call_id, all text.",
                param=where,
            )
        said = Name(str(name), item.get("namespace")).said
        arguments: Any = {"input": given} if key == "input" else given
        function = {"name": said, "arguments": arguments}
        entry = {"type": "function", "id": call, "function": function}
        last = self._messages[-1] if self._messages else {}
        place = len(self._messages) - 1
        if last.get("tool_calls") and place not in self._results and not self._thought:
            last["tool_calls"].append(entry)
        else:
            self.add({"role": "assistant", "content": None, "tool_calls": [entry]})
        self._places[str(call)] = len(self._messages) - 1

    def _resulted(self, item: Mapping[str, Any], where: str) -> None:
        call = str(item.get("call_id"))
        if call not in self._places:
            raise Refused(
                400,
                f"{where} is the output of call {call!r}, which no item before it is.",
                param=f"{where}.call_id",
            )
        content = self._content(item.get("output"), f"{where}.output")
        result = {"role": "tool", "tool_call_id": call, "content": content}
        self._results.setdefault(self._places[call], []).append(result)

    def _content(self, content: Any, where: str) -> str | list[dict[str, Any]]:
        """Text, or parts where there are media among it."""
        if isinstance(content, str):
            return content
        if not isinstance(content, list):
            raise Refused(400, f"{where} must be text or a list of parts.", param=where)
        parts = enumerate(content)
        return joined([self._part(part, f"{where}[{i}]") for i, part in parts])

    def _part(self, part: Any, where: str) -> dict[str, Any]:
        kind = str(part.get("type")) if isinstance(part, Mapping) else ""
        if kind in TEXTS and isinstance(text := part.get(TEXTS[kind]), str):
            return {"type": "text", "text": text}
        if kind == "input_image" and part.get("image_url") is not None:
            url = part["image_url"]
            return self._media.from_url("image", url, f"{where}.image_url")
        if kind == "input_audio" and isinstance(part.get("input_audio"), Mapping):
            data = part["input_audio"].get("data")
            return self._media.from_base64("audio", data, f"{where}.input_audio.data")
        if kind == "input_file" and part.get("file_data") is not None:
            data = part["file_data"]
            return self._media.from_base64("image", data, f"{where}.file_data")
        raise Refused(
            400,
            f"{where} is {_shown(part)}; it can be input_text, output_text, "
            "input_image with image_url, input_audio, or input_file with file_data.",
            param=where,
        )


def _thought(item: Mapping[str, Any]) -> str:
    """As it was thought, if that came back; else what was shown of it."""
    for key in ("content", "summary"):
        parts = item.get(key) or []
        if isinstance(parts, list):
            texts = [part.get("text") for part in parts if isinstance(part, Mapping)]
            if text := "".join(text for text in texts if isinstance(text, str)):
                return text
    sealed = item.get("encrypted_content")
    return (unsealed(sealed) or "") if isinstance(sealed, str) else ""


def _shown(part: Any) -> str:
    text = json.dumps(part, ensure_ascii=False)
    return text if len(text) <= 100 else text[:100] + "…"
