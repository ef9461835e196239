"""Prompts that were read, kept for later runs: `--prompt-cache`."""

from pathlib import Path
from typing import TYPE_CHECKING

from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.launched import rank_of
from mlx_gemma4.reading.sizes import size

if TYPE_CHECKING:
    from mlx_gemma4 import Gemma4, Processor
    from mlx_gemma4.kept.store import KeptPrompts

    from ..render import Screen

AUTO, OFF = "auto", "off"
PATIENCE = 2.0  # seconds that are waited in silence


def checked(how: object) -> str:
    """What `--prompt-cache` says. Raises ValueError that says what it takes."""
    gigabytes(str(how))
    return str(how)


def gigabytes(how: str) -> float | None:
    """The most that all may take on the disk; None is as much as usual. Raises
    ValueError, which says what `--prompt-cache` takes."""
    if how == AUTO:
        return None
    try:
        most = 0.0 if how == OFF else float(how)
    except ValueError:
        most = -1.0
    if not 0 <= most <= 100_000:
        raise ValueError("auto, off, or how many GB all kept prompts may take.")
    return most


def open_prompts(
    how: str,
    name: str,
    model: "Gemma4",
    processor: "Processor",
    adapter: Path | None,
    screen: "Screen",
) -> "KeptPrompts | None":
    """What is kept for the model called `name`; None where nothing is to be, or where
    its files cannot be told from others, which is said."""
    most = gigabytes(how)
    # What the first of several processes recalls, the others would not have.
    if most == 0 or rank_of() is not None:
        return None
    from mlx_gemma4.hub.resolve import resolve
    from mlx_gemma4.kept.folder import prompts_folder
    from mlx_gemma4.kept.identity import identity_of
    from mlx_gemma4.kept.store import MOST_BYTES, KeptPrompts

    try:
        identity = identity_of(resolve(name), model, processor, adapter)
    except (OSError, CheckpointError) as error:
        screen.note(f"What is read is not kept: {error}")
        return None
    most_bytes = MOST_BYTES if most is None else int(most * 1e9)
    return KeptPrompts(prompts_folder(), identity, most_bytes)


def end(prompts: "KeptPrompts", screen: "Screen") -> None:
    """Waits until all that is to be kept is written, and tells what could not be.
    Ctrl-C gives it up."""
    try:
        if not prompts.close(PATIENCE):
            left = size(prompts.unwritten)
            screen.note(f"Writing what was read, {left}. Ctrl-C gives that up.")
            prompts.close()
    except KeyboardInterrupt:
        prompts.give_up()
        raise
    if prompts.trouble:
        told = f"What was read is not kept: {prompts.trouble}."
        screen.note(f"{told} --prompt-cache off does not try.")
