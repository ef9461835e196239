"""What is kept, as the rows of the store's tables have it."""

import json
from dataclasses import dataclass, fields
from pathlib import Path

from ..attach.checking import is_message
from ..attach.messages import Message, text_of
from ..chat.setup import Setup
from ..settings import Settings


@dataclass(frozen=True)
class Turn:
    """A kept message. finish: None where its program was killed, or still writes it."""

    id: int
    parent: int | None
    message: Message
    finish: str | None
    created: float


@dataclass(frozen=True)
class Summary:
    """A conversation in a list. messages: how many, those of all branches."""

    id: int
    name: str | None
    model: str
    created: float
    updated: float
    messages: int
    first: str  # the first question


def setup_row(setup: Setup) -> tuple[str | None, ...]:
    tools = None if setup.tools is None else json.dumps(setup.tools)
    words = (setup.model, setup.adapter and str(setup.adapter), setup.system)
    plain = [None if word is None else storable(word) for word in words]
    return (*plain, tools, json.dumps(setup.settings.kept))


def setup_of(
    model: str,
    adapter: str | None,
    system: str | None,
    tools: str | None,
    settings: str,
) -> Setup:
    """Raises ValueError for what was not written by `setup_row`."""
    known = {field.name for field in fields(Settings)}  # an older program had others
    kept, declared = json.loads(settings), json.loads(tools) if tools else None
    if not isinstance(kept, dict):
        raise ValueError("its settings are none")
    if not (declared is None or isinstance(declared, list)):
        raise ValueError("its tools are no list")
    return Setup(
        model,
        Path(adapter) if adapter else None,
        system,
        declared,
        Settings(**{n: value for n, value in kept.items() if n in known}),
    )


def storable(text: str) -> str:
    """`text` without halves of characters, which an argument may hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def message_row(message: Message) -> tuple[str, str, str]:
    """Role, text, and whatever else a message holds."""
    rest = {key: value for key, value in message.items() if key != "role"}
    if isinstance(rest["content"], str):
        del rest["content"]
    return message["role"], storable(text_of(message)), json.dumps(rest)


def turn_of(
    number: int,
    parent: int | None,
    role: str,
    text: str,
    rest: str,
    finish: str | None,
    created: float,
) -> Turn:
    """Raises ValueError for what was not written by `message_row`."""
    more = json.loads(rest)
    if not isinstance(more, dict):
        raise ValueError(f"message {number} is no object")
    message = {"role": role, "content": text, **more}
    if not is_message(message):
        raise ValueError(f"message {number} is not as it was kept")
    return Turn(number, parent, message, finish, created)
