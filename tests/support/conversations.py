"""Random conversations of every shape the templates know."""

from random import Random
from typing import Any

TEXTS = ["Hi", "  two  words ", "line\nbreak\n", "", "Größe 漢字", "{{ x }} {% if %}"]
THOUGHT = "<|channel>thought\nold\n<channel|>"
NAMES = ["get_weather", "ns:files.read", "play-music"]


def random_conversation(rng: Random) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Messages, and the options to render them with."""
    messages: list[dict[str, Any]] = []
    if rng.random() < 0.5:
        role = rng.choice(["system", "developer"])
        messages.append({"role": role, "content": _content(rng, media=False)})
    for _ in range(rng.randrange(1, 4)):
        messages.append({"role": "user", "content": _content(rng)})
        for turn in range(rng.randrange(3)):
            messages += _assistant(rng, turn)
    options = {
        "tools": [_tool(rng) for _ in range(rng.randrange(3))] or None,
        "thinking": rng.random() < 0.5,
        "add_generation_prompt": rng.random() < 0.8,
    }
    return messages, options


def _content(rng: Random, media: bool = True) -> Any:
    if rng.random() < 0.6:
        return rng.choice(TEXTS)
    parts = [{"type": "text", "text": rng.choice(TEXTS)} for _ in range(2)]
    if media and rng.random() < 0.5:
        kind = rng.choice(["image", "audio", "video", "image_url", "input_audio"])
        parts.insert(rng.randrange(3), {"type": kind, "path": "file"})
    return parts


def _assistant(rng: Random, turn: int) -> list[dict[str, Any]]:
    message: dict[str, Any] = {"role": "assistant", "content": _content(rng)}
    if rng.random() < 0.3:
        message["content"] = THOUGHT + rng.choice(TEXTS)
    if rng.random() < 0.4:
        key = rng.choice(["reasoning", "reasoning_content", "thinking"])
        message[key] = rng.choice(TEXTS)
    if rng.random() < 0.5:
        return [message]
    calls = [_call(rng, f"{turn}-{i}") for i in range(rng.randrange(1, 3))]
    message["tool_calls"] = calls
    if rng.random() < 0.3:
        message["content"] = None
    if rng.random() < 0.2:
        answer = {"name": "get_weather", "response": {"sky": "blue", "degrees": 7}}
        message["tool_responses"] = [answer]
        return [message]
    answers = calls[: rng.randrange(len(calls) + 1)]
    return [message, *(_answer(rng, call) for call in answers)]


def _call(rng: Random, call_id: str) -> dict[str, Any]:
    arguments = {"city": "Rome", "Days": 3, "deep": {"b": [1.5, None, {"a": True}]}}
    chosen = {key: arguments[key] for key in rng.sample(list(arguments), 2)}
    function = {"name": rng.choice(NAMES), "arguments": chosen}
    return {"type": "function", "id": call_id, "function": function}


def _answer(rng: Random, call: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "tool", "content": _content(rng)}
    if rng.random() < 0.5:
        return {**message, "tool_call_id": call["id"]}
    return {**message, "name": call["function"]["name"]}


def _tool(rng: Random) -> dict[str, Any]:
    properties = {f"p{i}": _schema(rng, 0) for i in range(rng.randrange(4))}
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if rng.random() < 0.5:
        parameters["required"] = list(properties)[:2]
    function: dict[str, Any] = {"name": rng.choice(NAMES)}
    function["description"] = rng.choice(TEXTS)
    if rng.random() < 0.8:
        function["parameters"] = parameters
    if rng.random() < 0.2:
        function["response"] = {"description": "What it says", "type": "object"}
    return {"type": "function", "function": function}


def _schema(rng: Random, depth: int) -> dict[str, Any]:
    kinds = ["string", "integer", "boolean", ["string", "null"], "array", "object"]
    kind = rng.choice(kinds if depth < 3 else kinds[:4])
    schema: dict[str, Any] = {"type": kind}
    if rng.random() < 0.5:
        schema["description"] = rng.choice(TEXTS)
    if rng.random() < 0.2:
        schema["nullable"] = True
    if kind == "string" and rng.random() < 0.5:
        schema["enum"] = ["celsius", "fahrenheit"]
    if kind == "array" and rng.random() < 0.8:
        schema["items"] = _schema(rng, depth + 1)
    if kind == "object" and rng.random() < 0.8:
        schema["properties"] = {"x": _schema(rng, depth + 1), "Y": {"type": "number"}}
        schema["required"] = ["x"]
    return schema
