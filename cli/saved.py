"""Conversations as files: one JSON object, the messages as the library has them."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from mlx_gemma4.chat import plain_messages
from mlx_gemma4.errors import ChatError

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
    try:
        text = json.dumps(saved, ensure_ascii=False, indent=1)
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a character, which only JSON can spell
        text = json.dumps(saved, indent=1)
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror}.") from None


def read_conversation(path: Path, chat: Conversation) -> None:
    """Replaces what `chat` holds by the conversation in `path`."""
    saved = read_file(path)
    damaged = f"{path} is a damaged conversation; nothing was loaded"
    try:
        settings = saved_settings(saved.get("settings"))
        messages = saved_messages(saved.get("messages"))
    except (ChatError, RecursionError) as error:
        raise InputError(f"{damaged}: {error}") from None
    system = saved.get("system")
    if not isinstance(system, str | None):
        raise InputError(f"{damaged}: system is no text.")
    chat.clear()
    chat.messages = messages
    chat.system = system
    for field in fields(Settings):
        setattr(chat.settings, field.name, getattr(settings, field.name))


def saved_settings(saved: Any) -> Settings:
    """Checked settings. Raises ChatError."""
    known = {field.name for field in fields(Settings)}
    if not isinstance(saved, dict) or set(saved) != known:
        raise ChatError(f"settings must hold {', '.join(sorted(known))}.")
    settings = Settings(**saved)
    if isinstance(saved["stop"], list):
        settings.stop = tuple(saved["stop"])
    settings.check()
    return settings


def saved_messages(saved: Any) -> list[Message]:
    """Checked messages. Raises ChatError that names the one that is wrong."""
    if not isinstance(saved, list):
        raise ChatError("messages is no list.")
    for n, message in enumerate(saved):
        if not is_message(message):
            raise ChatError(f"messages[{n}] is not as /save writes it.")
    if saved:
        plain_messages(saved)
    return saved


def read_file(path: Path) -> dict[str, Any]:
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    except RecursionError:
        raise InputError(f"{path} is nested too deeply.") from None
    except ValueError:
        saved = None
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise InputError(f"{path} is not a conversation saved with /save.")
    return saved


def is_message(value: Any) -> bool:
    """Whether a message has what this program reads of it, calls with ids included."""
    if not isinstance(value, dict) or not isinstance(value.get("content"), str):
        return False
    calls = value.get("tool_calls", [])
    return (
        value.get("role") in ROLES
        and isinstance(calls, list)
        and all(isinstance(c, dict) and isinstance(c.get("id"), str) for c in calls)
    )
