"""Messages as people and programs write them: checked, and made alike for a template.

They have the shape of OpenAI's API and of transformers. Thoughts of earlier turns stand
in `reasoning_content` (or `reasoning`, `thinking`); the template decides which of them
the model sees again.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ChatError
from .tools import plain_json

ROLES = ("system", "developer", "user", "assistant", "tool")
SAME_ROLE = {"model": "assistant"}  # Gemma's own word, which its templates write
MEDIA_PARTS = ("image", "image_url", "audio", "input_audio", "video")
REASONING = ("reasoning_content", "thinking", "reasoning")  # the first one wins


def with_known_role(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """`message`, its role called as everywhere here: "model" is "assistant", and
    capitals do not matter."""
    role = message.get("role")
    if not isinstance(role, str) or role in ROLES:
        return message
    known = SAME_ROLE.get(role.lower(), role.lower())
    return {**message, "role": known} if known in ROLES else message


def plain_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Checked copies of `messages`, made of JSON types; the originals stay as they are.

    Arguments given as JSON text become mappings, media parts lose their content, and
    the role "model" becomes "assistant".
    Raises ChatError that names the message.
    """
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise ChatError("messages must be a list of {'role': …, 'content': …}.")
    if not messages:
        raise ChatError("The conversation is empty: give at least one message.")
    plain: list[dict[str, Any]] = []
    open_calls: list[dict[str, Any]] = []
    for i, message in enumerate(messages):
        where = f"messages[{i}]"
        plain.append(_plain_message(message, where))
        if plain[-1]["role"] != "tool":
            open_calls = plain[-1].get("tool_calls") or []
            if plain[-1].get("tool_responses"):
                open_calls = []  # they are answered; templates ignore any other answer
        elif not _answers(plain[-1], open_calls):
            raise ChatError(
                f"{where} has role 'tool' but answers no call: it must follow an "
                "assistant message with tool_calls and give one's id as tool_call_id."
            )
    return plain


def _plain_message(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise ChatError(f"{where} is a {type(message).__name__}, not a mapping.")
    message = with_known_role(message)
    role = message.get("role")
    if role not in ROLES:
        raise ChatError(f"{where} has role {role!r}; known are {', '.join(ROLES)}.")
    rest = {key: value for key, value in message.items() if key != "content"}
    plain: dict[str, Any] = plain_json(rest, where)
    if plain.get("tool_calls"):
        if role != "assistant":
            raise ChatError(f"{where}: only an assistant message has tool_calls.")
        plain["tool_calls"] = _plain_calls(plain["tool_calls"], where)
    for key in REASONING:
        if plain.get(key) is not None and not isinstance(plain[key], str):
            raise ChatError(f"{where}: {key} must be text.")
    thoughts = (plain[key] for key in REASONING if plain.get(key) is not None)
    if (thought := next(thoughts, None)) is not None:
        plain["reasoning_content"] = thought
    content = message.get("content")
    if content is not None:
        plain["content"] = _plain_content(content, role, where)
    elif role != "assistant" or not any(
        plain.get(key) for key in ("tool_calls", "tool_responses", "reasoning_content")
    ):
        raise ChatError(f"{where} has no content.")
    else:
        plain["content"] = None
    return plain


def _plain_content(content: Any, role: str, where: str) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return str(content)
    if isinstance(content, Mapping) or not isinstance(content, Sequence):
        kind = type(content).__name__
        raise ChatError(f"{where}: content is a {kind}; give text or a list of parts.")
    parts = []
    for i, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part["text"] if "text" in part else None, str):
            parts.append({"type": "text", "text": str(part["text"])})
        elif kind in MEDIA_PARTS and role not in ("system", "developer"):
            parts.append({"type": kind})
        elif kind in MEDIA_PARTS:
            raise ChatError(f"{where}: a {role} message holds text only, no {kind}.")
        else:
            raise ChatError(
                f"{where}: content[{i}] must be {{'type': 'text', 'text': …}} or an "
                "image, audio or video part."
            )
    return parts


def _plain_calls(calls: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise ChatError(f"{where}: tool_calls must be a list.")
    for i, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ChatError(
                f"{where}: tool_calls[{i}] must be {{'type': 'function', 'id': …, "
                "'function': {'name': …, 'arguments': {…}}}."
            )
        arguments = _plain_arguments(function.get("arguments"))
        if arguments is None:
            raise ChatError(
                f"{where}: the arguments of tool_calls[{i}] are no JSON object."
            )
        function["arguments"] = arguments
    return calls


def _plain_arguments(arguments: Any) -> dict[str, Any] | None:
    """The mapping of arguments, None where they are something else.

    Many programs write no arguments as an empty text or as null.
    """
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else None
        except ValueError:
            return None
    if arguments is None:
        return {}
    return arguments if isinstance(arguments, dict) else None


def _answers(message: Mapping[str, Any], calls: Sequence[Mapping[str, Any]]) -> bool:
    ids = [call.get("id") for call in calls]
    named = isinstance(message.get("name"), str) and message["name"]
    return bool(ids) and (message.get("tool_call_id") in ids or bool(named))
