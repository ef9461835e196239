"""A conversation without a model: which one this machine can run, and getting it.

Only on a terminal. What is chosen is kept as the default.
"""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from mlx_gemma4.reading.sizes import size

from ..errors import InputError
from ..render import Screen
from .default import keep_default, kept_default
from .getting import get, ways

if TYPE_CHECKING:
    from pathlib import Path

MOST = 3  # models of the Hub's cache that are offered
TOY = "a toy of 5 million weights, to try the program with"


@dataclass(frozen=True)
class Choice:
    name: str
    about: str


def first_choice(name: str | None, adapted: bool, screen: Screen) -> str | None:
    """`name`, or what the user chooses where none is named, kept or implied by an
    adapter; None where nobody can be asked."""
    if name is not None or adapted or kept_default() or not can_ask(screen):
        return name
    screen.note("No model has been chosen yet.")
    chosen = choose(screen)
    try:
        keep_default(chosen)
        screen.note(
            f"{chosen} is the default from now on: `gemma4 default` changes it."
        )
    except InputError as error:
        screen.note(f"The choice is not kept: {error}")
    if chosen == "demo":
        screen.note(f"demo is {TOY}: `gemma4 pull` gets a real model.")
    return chosen


def can_ask(screen: Screen) -> bool:
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return not screen.as_json and all(stream.isatty() for stream in streams)


def choose(screen: Screen) -> str:
    """Asks which model to take, and gets it. Returns its name."""
    from mlx_gemma4.device import memory_limit
    from mlx_gemma4.hub.here import hub_cache
    from mlx_gemma4.hub.names import licence

    memory = memory_limit()
    offered = list(choices(memory))
    screen.note(
        f"A model may use {size(memory)} of this machine's memory; "
        f"{size(free_disk(hub_cache()))} of disk are free."
    )
    for number, choice in enumerate(offered, 1):
        screen.note(f"  {number}  {choice.name}")
        screen.note(f"     {choice.about}")
    if len(offered) == 1:
        screen.note("No larger model fits the memory of this machine.")
    screen.note(f"Gemma 4 is under {licence()}. Ctrl-C leaves.")
    name = ask([choice.name for choice in offered])
    return get(name, screen, yes=True)


def ask(names: list[str]) -> str:
    """One of `names`, by its number or as it is, or any other model."""
    while True:
        answer = typer.prompt("Which one?", default="1", err=True).strip()
        if not answer.isdecimal():
            return answer
        if 1 <= int(answer) <= len(names):
            return names[int(answer) - 1]
        print(f"Type a number from 1 to {len(names)}, or a name.", file=sys.stderr)


def choices(memory: int) -> Iterator[Choice]:
    """What is here already, then what fits the memory, the best first, and the demo."""
    from mlx_gemma4.hub.here import Place, held
    from mlx_gemma4.hub.names import models, suggested

    whole = [each for each in held() if each.complete and each.nbytes <= memory]
    there = [each for each in whole if each.place is not Place.BUILT_IN]
    for each in there[:MOST]:
        yield Choice(each.name, f"is here already: {size(each.nbytes)}")
    names = {each.name for each in there}
    first = True
    rest = [model for model in models().values() if model.instead is None]
    for model in dict.fromkeys([*suggested(), *rest]):
        fitting = [each for each in model.best if each.needs <= memory]
        # Of the first one there is a choice.
        for variant in fitting if first else fitting[:1]:
            if variant.name not in names:
                about = f"{ways(variant)}. Reads {model.reads}."
                yield Choice(variant.name, about[0].upper() + about[1:])
        first = first and not fitting
    yield Choice("demo", f"built in: {TOY}")


def free_disk(folder: "Path") -> int:
    """Bytes that are free where `folder` is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
