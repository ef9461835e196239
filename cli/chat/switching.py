"""What /model does: another model goes on with the conversation."""

import gc
from pathlib import Path
from typing import TYPE_CHECKING

from ..attach.attaching import read_part
from ..attach.messages import Part, media_of, plain_message
from ..drafts import MODES
from ..loading import open_model, warnings_noted
from ..logs.prompts import open_prompts
from ..model_senses import require_sense
from ..models.obtaining import obtain
from .session import Answer, Session

if TYPE_CHECKING:
    from mlx_gemma4 import Processor


def model_command(session: Session, words: str) -> Answer:
    if words:
        switch(session, words)
    session.screen.note(f"model: {session.model_name}")
    return None


def switch(session: Session, name: str) -> None:
    """Goes on with the model called `name`, without an adapter; where it cannot be
    loaded, with the one from before."""
    from mlx_gemma4.config import Config
    from mlx_gemma4.hub.resolve import resolve

    screen = session.screen
    name = obtain(name, screen, False, True, session.chat.settings.ple)
    with warnings_noted(screen):
        config = Config.from_file(resolve(name) / "config.json")
    for part in media(session):
        require_sense(config, name, part["type"])
    before, adapter = session.model_name, session.adapter
    session.chat.let_go()  # two models may be more than the memory holds
    gc.collect()
    drafter = session.chat.settings.draft
    other = None if drafter is None or drafter in MODES else drafter
    try:
        take_over(session, name, None, None if other else drafter)
    except BaseException:
        put_back(session, before, adapter, drafter)
        raise
    if adapter is not None:
        screen.note(f"{adapter} is for {before}, and is off.")
    if other:
        session.chat.settings.draft = None
        screen.note(f"{other} is for {before}; now draft = default.")


def media(session: Session) -> list[Part]:
    """What the model sees and hears of the conversation and of the next message."""
    of_messages = [part for each in session.chat.messages for part in media_of(each)]
    attached = [*of_messages, *session.chat.attached]
    return [part for part in attached if part["type"] != "file"]


def take_over(
    session: Session, name: str, adapter: Path | None, draft: str | None
) -> None:
    how = {**session.chat.settings.loading, "draft": draft}
    model, processor, name = open_model(name, session.screen, adapter, **how)
    read_again(session, processor)
    session.chat.change_model(model, processor)
    for message in session.chat.messages:
        if message["role"] == "tool":  # what was seen and heard is nowhere to be read
            message["content"] = plain_message(message)["content"]
    session.model_name, session.adapter = name, adapter
    go_on_from_kept(session)


def read_again(session: Session, processor: "Processor") -> None:
    """Reads all attachments as `processor` takes them, or none. Raises MediaError."""
    parts = media(session)
    with warnings_noted(session.screen):
        read = [
            read_part(
                processor,
                part["type"],
                Path(part["path"]),
                part.get("image_tokens"),
                part.get("track"),
            )
            for part in parts
        ]
    for part, new in zip(parts, read, strict=True):
        part.update(new)


def put_back(
    session: Session, name: str, adapter: Path | None, draft: str | None
) -> None:
    try:
        take_over(session, name, adapter, draft)
    except BaseException as error:
        session.screen.note(f"{name} could not be loaded again: {error}")
        raise SystemExit(1) from None  # the conversation is kept


def go_on_from_kept(session: Session) -> None:
    """Lets the conversation go on from what is kept for its model, and be kept."""
    session.close_prompts()
    chat = session.chat
    session.prompts = open_prompts(
        session.prompt_cache,
        session.model_name,
        chat.model,
        chat.processor,
        session.adapter,
        session.screen,
    )
    chat.remember_in(session.prompts)
