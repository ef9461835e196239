"""Conversations as files: one JSON object, the messages as the library has them.

Media are kept as absolute paths, and read again when the conversation is loaded,
each picture at the budget that it was attached with.
"""

import json
import os
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from mlx_gemma4.chat.messages import plain_messages, with_known_role
from mlx_gemma4.errors import ChatError, MediaError
from mlx_gemma4.reading.bounded import read_bytes
from mlx_gemma4.state import PRIVATE, save_text, state_folder

from ..attach.attaching import read_part
from ..attach.checking import is_message
from ..attach.messages import Message, plain_message
from ..errors import InputError, unwritable
from ..render import json_text
from ..settings import OF_RUN, Settings
from .conversation import Conversation

FORMAT = "gemma4-chat"
# Settings that conversations saved by earlier versions lack.
LATER = ("image_tokens", "think_budget", "presence_penalty", "frequency_penalty")
LATER += ("stop_loops",)


def write_conversation(
    path: Path, chat: Conversation, model_name: str, mode: int | None = None
) -> None:
    """Writes `chat` to `path`; only another saved conversation is overwritten.

    Raises InputError and DiskFullError; the file then is what it was.
    """
    if os.path.lexists(path):
        read_file(path)
    saved = saved_form(model_name, chat.system, chat.settings, chat.messages)
    try:
        save_text(path, json_text(saved, indent=1) + "\n", mode)
    except OSError as error:
        raise unwritable(path, error) from None


def saved_form(
    model_name: str | None,
    system: str | None,
    settings: Settings,
    messages: list[Message],
) -> dict[str, Any]:
    """What a file holds of a conversation."""
    return {
        "format": FORMAT,
        "model": model_name,
        "system": system,
        "settings": settings.kept,
        "messages": [plain_message(message) for message in messages],
    }


def rescue_conversation(chat: Conversation, model_name: str) -> Path:
    """Writes `chat` to a file of its own, for its owner only, that /load reads.

    Raises InputError and DiskFullError.
    """
    folder = state_folder() / "rescued"
    path = folder / time.strftime(f"chat-%Y%m%d-%H%M%S-{os.getpid()}.json")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None
    write_conversation(path, chat, model_name, PRIVATE)
    return path


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
    read_media(messages, chat, settings, path)
    chat.clear()
    chat.messages = messages
    chat.system = system
    for name in settings.kept:
        setattr(chat.settings, name, getattr(settings, name))


def saved_settings(saved: Any) -> Settings:
    """Checked settings. Raises ChatError."""
    known = {field.name for field in fields(Settings)} - OF_RUN
    usual = {name: getattr(Settings(), name) for name in LATER}
    given = {**usual, **saved} if isinstance(saved, dict) else {}
    if set(given) != known:
        raise ChatError(f"settings must hold {', '.join(sorted(known))}.")
    settings = Settings(**given)
    settings.check()
    return settings


def saved_messages(saved: Any) -> list[Message]:
    """Checked messages. Raises ChatError that names the one that is wrong."""
    if not isinstance(saved, list):
        raise ChatError("messages is no list.")
    messages: list[Any] = [
        with_known_role(m) if isinstance(m, dict) else m for m in saved
    ]
    for n, message in enumerate(messages):
        if not is_message(message):
            raise ChatError(f"messages[{n}] is not as /save writes it.")
    if messages:
        plain_messages(messages)
    return messages


def read_media(
    messages: list[Message], chat: Conversation, settings: Settings, path: Path
) -> None:
    """Reads the media that `messages` name. Raises InputError that names the first
    that cannot be read."""
    for message in messages:
        if isinstance(message["content"], str):
            continue
        for n, part in enumerate(message["content"]):
            if part["type"] == "text":
                continue
            kind, file, track = part["type"], Path(part["path"]), part.get("track")
            # Files from before pictures kept a budget of their own lack it.
            budget = part.get("image_tokens", settings.image_tokens)
            if not os.path.exists(file):
                raise InputError(
                    f"{path} needs {file}, which is not there any more: put it back "
                    "and load again. Nothing was loaded."
                )
            try:
                message["content"][n] = read_part(
                    chat.processor, kind, file, budget, track
                )
            except MediaError as error:
                raise InputError(f"{error} Nothing was loaded from {path}.") from None


def read_file(path: Path) -> dict[str, Any]:
    try:
        saved = json.loads(read_bytes(path).decode("utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    except RecursionError:
        raise InputError(f"{path} is nested too deeply.") from None
    except ValueError:
        saved = None
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise InputError(f"{path} is not a conversation saved with /save.")
    return saved
