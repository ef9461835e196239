"""Conversations as files: one JSON object, the messages as the library has them."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from .conversation import Conversation, Message
from .errors import InputError
from .settings import Settings

FORMAT = "gemma4-chat"
ROLES = ("user", "assistant", "tool")


def write_conversation(path: Path, chat: Conversation, model_name: str) -> None:
    """Writes `chat` to `path`; only another saved conversation is overwritten."""
    if path.exists():
        read_file(path)
    saved = {
        "format": FORMAT,
        "model": model_name,
        "system": chat.system,
        "settings": asdict(chat.settings),
        "messages": chat.messages,
    }
    text = json.dumps(saved, ensure_ascii=False, indent=1)
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror}.") from None


def read_conversation(path: Path, chat: Conversation) -> None:
    """Replaces what `chat` holds by the conversation in `path`."""
    saved = read_file(path)
    settings = saved.get("settings")
    messages = saved.get("messages")
    system = saved.get("system")
    known = {f.name for f in fields(Settings)}
    if (
        not isinstance(settings, dict)
        or set(settings) != known
        or not isinstance(messages, list)
        or not all(is_message(m) for m in messages)
        or not isinstance(system, str | None)
    ):
        raise InputError(f"{path} is a damaged conversation; nothing was loaded.")
    chat.clear()
    chat.messages = messages
    chat.system = system
    for name, value in settings.items():
        setattr(chat.settings, name, tuple(value) if name == "stop" else value)


def read_file(path: Path) -> dict[str, Any]:
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    except ValueError:
        saved = None
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise InputError(f"{path} is not a conversation saved with /save.")
    return saved


def is_message(value: Message) -> bool:
    return (
        isinstance(value, dict)
        and value.get("role") in ROLES
        and isinstance(value.get("content"), str)
    )
