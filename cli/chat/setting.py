"""What /system, /think, /set and /show do: how the answers of a chat are made."""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from mlx_gemma4.generation.room import check_max_context
from mlx_gemma4.reading.sizes import size
from mlx_gemma4.sampling import BOUNDS, SAMPLING

from ..attach.messages import media_of, names
from ..errors import UsageError
from ..loading import change_drafter, drafter_told
from ..model_senses import has_sense
from ..settings import Settings
from ..usage.mistakes import suggestion
from .session import Answer, Session

if TYPE_CHECKING:
    from mlx_gemma4.text.table import RowTable

OTHERS = ("max_tokens", "think_budget", "image_tokens", "kv_bits", "max_context")
NUMBERS = (*SAMPLING, *OTHERS)
SWITCHES = ("stop_loops",)
WORDS = ("draft",)
KNOWN = (*NUMBERS, *SWITCHES, *WORDS)
WHOLE = {*OTHERS, *(n for n in SAMPLING if BOUNDS[n].whole)}
SENSES = {"image": "pictures", "audio": "sound", "video": "videos"}


def system_command(session: Session, words: str) -> Answer:
    if words:
        session.chat.system = None if words == "off" else words
    session.screen.note(f"system: {session.chat.system or '(none)'}")
    return None


def think_command(session: Session, words: str) -> Answer:
    session.chat.settings.think = on_or_off(words, session.chat.settings.think)
    session.screen.note(f"think: {'on' if session.chat.settings.think else 'off'}")
    return None


def set_command(session: Session, words: str) -> Answer:
    chat, settings = session.chat, session.chat.settings
    name, _, value = words.partition(" ")
    if name and name not in KNOWN:
        raise UsageError(
            f"There is no setting '{name}'.{suggestion(name, KNOWN)} "
            f"Known: {', '.join(KNOWN)}."
        )
    if value:
        parsed = parse_setting(name, value.strip())
        new = replace(settings, **{name: parsed})
        new.check()
        own = chat.model.config.text_config.max_position_embeddings
        check_max_context(new.max_context, own)
        if name in WORDS:
            change_drafter(chat.model, session.model_name, new.draft, session.screen)
        setattr(settings, name, parsed)
    for key in [name] if name else KNOWN:
        value = getattr(settings, key)
        session.screen.note(f"{key} = {'default' if value is None else said(value)}")
    return None


def show_command(session: Session, words: str) -> Answer:
    """Says what answers, and how."""
    chat, config = session.chat, session.chat.model.config
    usual = asdict(Settings())
    stated = {k: v for k, v in asdict(chat.settings).items() if v != usual[k]}
    senses = [name for kind, name in SENSES.items() if has_sense(config, kind)]
    lines = {
        "model": session.model_name,
        "adapter": session.adapter,
        "takes": ", ".join(["text", *senses]),
        "drafter": drafter_told(chat.model),
        "per-layer embeddings": _place(chat.model.language_model.table),
        "context": session.context(),
        "system": chat.system,
        "tools": ", ".join(tool["function"]["name"] for tool in chat.tools or ()),
        "settings": ", ".join(f"{k} {said(v)}" for k, v in stated.items()),
        "files": names(part for each in chat.messages for part in media_of(each)),
        "attached": names(chat.attached),
    }
    for name, value in lines.items():
        if value or name in ("adapter", "system", "settings", "attached"):
            session.screen.note(f"{name}: {value or '(none)'}")
    return None


def _place(table: "RowTable | None") -> str | None:
    return None if table is None else f"on disk, {size(table.nbytes)}"


def said(value: object) -> str:
    """A setting as the user states it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(map(repr, value)) if isinstance(value, list) else str(value)


def on_or_off(words: str, now: bool) -> bool:
    if words not in ("on", "off", ""):
        raise UsageError(f"Say on or off, not '{words}'.")
    return words == "on" if words else now


def parse_setting(name: str, text: str) -> float | int | str | None:
    """A value for /set, or the checkpoint's own for `default`."""
    if text == "default":
        return getattr(Settings(), name)
    if name in SWITCHES:
        return on_or_off(text, now=True)
    if name in WORDS:
        return text
    try:
        return int(text) if name in WHOLE else float(text)
    except ValueError:
        kind = "whole number" if name in WHOLE else "number"
        raise UsageError(f"{name} takes a {kind}, not '{text}'.") from None
