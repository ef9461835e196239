"""A conversation without a model: which one this machine can run, and getting it.

Only on a terminal. What is chosen is kept as the default.
"""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from mlx_gemma4.errors import CheckpointError, DiskFullError, ModelNotFoundError
from mlx_gemma4.hub.names import DEMO
from mlx_gemma4.reading.sizes import free_space, size

from ..errors import InputError
from ..render import Screen
from .default import keep_default, kept_default
from .fetch import can_ask
from .obtaining import obtain, ways

if TYPE_CHECKING:
    from pathlib import Path

REFUSED = (ModelNotFoundError, CheckpointError, MemoryError, DiskFullError)
LEAVE = ("q", "quit", "exit", "bye", "n", "no", "none")
MOST = 3  # models of the Hub's cache that are offered
TOY = "a toy of 5 million weights, to try the program with"


@dataclass(frozen=True)
class Choice:
    name: str
    about: str


def first_choice(name: str | None, adapted: bool, screen: Screen) -> str | None:
    """`name`, or what the user chooses where none is named, kept or implied by an
    adapter; None where nobody can be asked, or a choice is kept."""
    if name is not None or adapted or not can_choose(screen):
        return name
    kept = kept_default()
    if kept is None:
        screen.note("No model has been chosen yet.")
        kept = name = choose(screen)
        try:
            keep_default(name)
            screen.note(f"{name} is the default now: `gemma4 default` changes it.")
        except InputError as error:
            screen.note(f"The choice is not kept: {error}")
    if kept == DEMO:
        screen.note(f"demo is {TOY}: `gemma4 pull` gets a real model.")
    return name


def can_choose(screen: Screen) -> bool:
    """Whether somebody is there to answer, and to be talked to."""
    return can_ask(screen) and sys.stdout.isatty()


def choose(screen: Screen) -> str:
    """Asks which model to take, and gets it. Returns its name."""
    from mlx_gemma4.device import memory_limit
    from mlx_gemma4.hub.cache import hub_cache
    from mlx_gemma4.hub.names import licence

    from ..doctor.report import Section, laid_out

    memory, disk = memory_limit(), free_space(hub_cache())
    offered = list(choices(memory, disk))
    screen.note(
        f"Of this machine's memory a model may use {size(memory)}; {size(disk)} of "
        f"disk are free. Gemma 4 is under {licence()}."
    )
    rows = [(f"{n}  {each.name}", each.about) for n, each in enumerate(offered, 1)]
    if len(rows) > 1:
        rows[0] = rows[0][0], f"recommended: {rows[0][1]}"
    else:
        screen.note("No real model fits this machine.")
    columns = shutil.get_terminal_size().columns - 1
    for line in laid_out([Section("", rows)], columns)[1:-1]:
        screen.note(line)
    names = [each.name for each in offered]
    while True:
        name = ask(names)
        try:
            # What was not in the list has not been told of yet.
            return obtain(name, screen, yes=name in names)
        except REFUSED as error:
            screen.note(str(error))


def ask(names: list[str]) -> str:
    """One of `names`, by its number or as it is, or any other model. Raises typer.Abort
    for none of them."""
    while True:
        answer = typer.prompt("Which one?", default="1", err=True).strip()
        if answer.lower().removeprefix("/") in LEAVE:
            raise typer.Abort
        if not answer.isdecimal():
            return answer
        if 1 <= int(answer) <= len(names):
            return names[int(answer) - 1]
        print(f"Type a number from 1 to {len(names)}, or a name.", file=sys.stderr)


def choices(memory: int, disk: int) -> Iterator[Choice]:
    """What is here already, then what fits, the best to begin with, and the demo."""
    from mlx_gemma4.hub.here import Place, held
    from mlx_gemma4.hub.names import models, suggested

    whole = [each for each in held() if each.complete and each.nbytes <= memory]
    there = [
        each
        for each in whole
        if each.place is not Place.BUILT_IN and has_template(each.folder)
    ]
    for each in there[:MOST]:
        yield Choice(each.name, f"is here: {size(each.nbytes)}.")
    names = {each.name for each in there}
    several = True  # ways to have the first model
    for model in dict.fromkeys([*suggested(), *models().values()]):
        fitting = [v for v in model.best if v.fits(memory) and v.kept <= disk]
        for variant in fitting if several else fitting[:1]:
            if variant.name not in names:
                about = f"{model.about}; {ways(variant)}. Reads {model.reads}."
                yield Choice(variant.name, about)
        several = several and not fitting
    yield Choice(DEMO, f"{TOY}; built in.")


def has_template(folder: "Path") -> bool:
    """Whether a model can chat, as far as its files' names tell."""
    if any(folder.glob("chat_template.*")):
        return True
    file = folder / "tokenizer_config.json"
    return file.is_file() and '"chat_template"' in file.read_text("utf-8", "replace")
