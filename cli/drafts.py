"""What `--draft` says: how drafts are made, or which drafter makes them.

Drafts are tokens that something quick proposes and the model only checks: they change
the time that an answer takes, never its text.
"""

import os
from typing import TYPE_CHECKING

from mlx_gemma4.errors import ChatError

from .usage.mistakes import suggestion

if TYPE_CHECKING:
    from mlx_gemma4.decoding.drafts import Draft

MODES: "tuple[Draft, ...]" = ("auto", "assistant", "lookup", "off")
OFF = "off"  # for `load`: no drafter


def mode_of(draft: str | None) -> "Draft | None":
    """How drafts are made, as `stream_generate` takes it."""
    if draft is None:
        return None
    modes: dict[str, Draft] = {mode: mode for mode in MODES}
    return modes.get(draft, "auto")


def drafter_of(draft: str | None) -> str | None:
    """Which drafter is loaded, as `load` takes it: None for the one that lies beside
    the model, if any."""
    if draft in ("lookup", "off"):
        return OFF
    return None if draft in MODES else draft


def draft_of(value: object) -> str:
    """What `--draft` says. Raises ValueError, which says what it takes, for what is
    neither a way nor can be the name of a drafter."""
    draft = value if isinstance(value, str) else ""
    if draft in MODES:
        return draft
    from mlx_gemma4.hub.resolve import HUB_ID

    is_path = draft.startswith((".", "~", "/"))
    if draft and os.path.isdir(os.path.expanduser(draft)):
        return draft
    if not is_path and HUB_ID.fullmatch(draft):
        return draft
    raise ValueError(
        f"{', '.join(MODES)}, or a drafter: a folder that is there, or a Hub id."
        f"{suggestion(str(value), MODES)}"
    )


def check_draft(draft: str | None) -> None:
    """Raises ChatError for what `--draft` does not take."""
    if draft is None:
        return
    try:
        draft_of(draft)
    except ValueError as error:
        raise ChatError(f"draft is {draft!r}; it can be {error}") from None
