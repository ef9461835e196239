"""Fetching a model from the Hub for a command: what it costs is said, and asked."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mlx_gemma4.config.ple import Ple
from mlx_gemma4.errors import ModelNotFoundError
from mlx_gemma4.reading.sizes import size

from ..progress import Progress
from ..render import Screen

if TYPE_CHECKING:
    from mlx_gemma4.hub.offer import Offer


def fetch(
    name: str, screen: Screen, yes: bool, to_chat: bool = True, ple: Ple = Ple.AUTO
) -> Path:
    """The folder of a model; one that is not here is fetched from the Hub.

    yes: without a question. It is asked on a terminal only.
    to_chat: refuse what has no chat template. ple: as `--ple` says.

    A model that does not run or fit here is refused before a weight of it is fetched.
    Raises ModelNotFoundError, also where nobody agrees or can be asked, and what
    `offer` and `download` raise.
    """
    from mlx_gemma4.hub.resolve import local_folder

    folder = local_folder(name)
    if folder is not None:
        return folder
    found = ask(name, screen, to_chat, ple=ple)
    if found.to_fetch:
        hint = f", or run `gemma4 pull {name}` first"
        agree(lines(found, name), found.to_fetch, name, screen, yes, hint)
    return get(found, screen)


def ask(
    name: str,
    screen: Screen,
    to_chat: bool = False,
    drafter: bool = False,
    ple: Ple = Ple.AUTO,
) -> "Offer":
    """What the Hub has by a name. Arguments are those of `offer`, and errors too."""
    from huggingface_hub.utils import logging

    from mlx_gemma4.hub.offer import offer

    logging.set_verbosity_error()  # it would write between our lines
    screen.passing(f"Asking the Hub for {name} …")
    try:
        return offer(name, to_chat, drafter, ple)
    finally:
        screen.passed()


def agree(
    told: list[str], count: int, name: str, screen: Screen, yes: bool, hint: str = ""
) -> None:
    """Says what is to be fetched, `count` bytes, and asks.

    told: of a model, to who decides. hint: what else to do where nobody can be asked.
    Raises ModelNotFoundError where nobody agrees.
    """
    asks = can_ask(screen)
    if yes or asks:
        brief = [f"Fetching {name}, {size(count)}."]
        for line in brief if screen.as_json else told:
            screen.note(line)
    if yes:
        return
    if not asks:
        raise ModelNotFoundError(
            f"{name} is not here, and {size(count)} are to be fetched: add --yes{hint}."
        )
    if not typer.confirm("Fetch it?", default=True, err=True):
        raise ModelNotFoundError(f"{name} is not here, and nothing was fetched.")


def can_ask(screen: Screen) -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty() and not screen.as_json


def lines(found: "Offer", name: str) -> list[str]:
    """What a model is and costs, for people who decide about it."""
    here = found.nbytes - found.to_fetch
    rest = f", {size(here)} are here" if here >= found.nbytes / 100 else ""
    bits = (found.config.quantization or {}).get("bits")
    return [
        f"{name} is on the Hub:",
        f"  to fetch  {size(found.to_fetch)}{rest}",
        f"  weights   {f'{bits} bits' if bits else 'not quantised'}",
        f"  disk      {size(found.free)} free",
        f"  memory    {needed(found.memory, found.table)}",
        f"  licence   {found.licence or 'not stated'}",
    ]


def needed(whole: int, table: int) -> str:
    """What weights take here: `4.0 GB of 5.7 GB; 2.5 GB with --ple disk`."""
    from mlx_gemma4.device import shared_limit

    less = f"; {size(whole - table)} with --ple disk" if table else ""
    return f"{size(whole)} of {size(shared_limit())}{less}"


def get(found: "Offer", screen: Screen) -> Path:
    """Fetches what lacks, behind a bar; returns the model's folder."""
    from mlx_gemma4.hub.download import download

    try:
        with Progress(screen, "Fetching", found.to_fetch, in_bytes=True) as bar:
            return download(found, bar.advance, bar.note)
    except KeyboardInterrupt:
        screen.note("What has come is kept: run the same command again to go on.")
        raise
