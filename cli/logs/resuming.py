"""Goes on with a kept conversation: `gemma4 chat -c` and `--session NAME`."""

from collections.abc import Set
from dataclasses import dataclass, fields, replace
from pathlib import Path

from mlx_gemma4.errors import ChatError, MediaError

from ..attach.attaching import read_part
from ..attach.messages import Message, Part, media_of, text_of
from ..chat.conversation_file import saved_messages
from ..chat.recent import clipped
from ..chat.session import Session
from ..chat.setup import Setup
from ..errors import InputError
from ..settings import OF_RUN, Settings
from .keeping import print_of
from .rows import Turn
from .store import check_name, is_number, opened, store_path


@dataclass(frozen=True)
class Kept:
    """A conversation as it was left."""

    number: int
    setup: Setup
    turns: list[Turn]

    def but_with(self, asked: Setup, stated: Set[str]) -> Setup:
        """What it was held with, but for what is `stated` of what is `asked` for."""
        was = self.setup
        other = stated & {"model", "adapter"}  # an adapter belongs to its model
        kept = {field.name for field in fields(Settings)} - stated - OF_RUN
        return Setup(
            asked.model if other else was.model,
            asked.adapter if other else was.adapter,
            asked.system if "system" in stated else was.system,
            asked.tools or was.tools,
            replace(asked.settings, **{n: getattr(was.settings, n) for n in kept}),
        )


def look_up(name: str | None) -> Kept | None:
    """The conversation of a name or number, or for None the last one. None where the
    name is free. Raises UsageError and InputError."""
    if name is not None:
        check_name(name)
    if not store_path().exists() and name is not None and not is_number(name):
        return None
    with opened() as store:
        number = store.find(name)
        if number is None and name is not None and not is_number(name):
            return None
        number = store.found(name)
        return Kept(number, store.setup(number), store.turns(number))


def put_back(kept: Kept, session: Session, draft: bool) -> None:
    """Makes `kept` the conversation of `session`. Raises InputError.

    draft: whether a question that got no answer waits at the prompt; else it is left.
    """
    chat, turns = session.chat, list(kept.turns)
    try:
        messages = saved_messages([turn.message for turn in turns])
    except (ChatError, RecursionError) as error:
        raise InputError(f"Conversation {kept.number} is damaged: {error}") from None
    for message in messages:
        read_media(session, message)
    if messages and messages[-1]["role"] == "user":
        asked = messages.pop()
        turns.pop()
        if draft:
            session.draft, chat.attached = text_of(asked), media_of(asked)
        else:
            (said, *_) = clipped(text_of(asked)) or [""]
            session.screen.note(f"Left out, since it got no answer: {said}")
    chat.messages = messages
    if session.keeper is not None:
        session.keeper.adopt(kept.number, turns, messages)
    session.lose_calls()


def read_media(session: Session, message: Message) -> None:
    """Reads the files of a message again. One that is not what it was is left out, and
    a note says so: the model has not seen what lies there now."""
    if isinstance(message["content"], str):
        return
    parts: list[Part] = []
    for part in message["content"]:
        try:
            parts.append(part if part["type"] == "text" else read_again(session, part))
        except (InputError, MediaError) as error:
            session.screen.note(f"Left out: {error}")
    message["content"] = parts


def read_again(session: Session, part: Part) -> Part:
    path = Path(part["path"])
    now = print_of(str(path))
    if not now:
        raise InputError(f"{path} is not there any more.")
    if now != {key: part.get(key) for key in now}:
        raise InputError(f"{path} has changed since it was attached.")
    chat, track = session.chat, part.get("track")
    budget = part.get("image_tokens", chat.settings.image_tokens)
    return read_part(chat.processor, part["type"], path, budget, track)
