"""What is to be converted, a folder or a repository at the Hub, and the plan for it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_gemma4.reading.home import with_home

from ..render import Screen

if TYPE_CHECKING:
    from mlx_gemma4.convert.plan import Plan
    from mlx_gemma4.convert.source import Source
    from mlx_gemma4.convert.survey import Wishes


def original(name: str) -> str:
    """What is to be converted or compared with: a short name stands for a Hub id."""
    from mlx_gemma4.hub import names

    # os.path, since Path.is_file raises for names that are too long.
    there = os.path.isfile(with_home(name) / "config.json")
    return name if there else names.original(name)


def open_source(name: str, out: Path | None, screen: Screen) -> "Source":
    """What is to be converted; of a Hub id that is not here no more than its headers.

    A conversion into `out` that was stopped goes on with the commit that it began with.
    """
    from mlx_gemma4.convert.journal import begun
    from mlx_gemma4.convert.output import partial
    from mlx_gemma4.convert.remote import remote
    from mlx_gemma4.convert.source import local
    from mlx_gemma4.hub.resolve import local_folder

    folder = local_folder(name)
    if folder is not None:
        return local(folder)
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # it would write between our lines
    before = None if out is None else begun(partial(out))
    screen.passing(f"Asking the Hub for {name} …")
    try:
        same = before is not None and before.source == name
        return remote(name, before.commit if before and same else None)
    finally:
        screen.passed()


def planned(
    name: str, out: Path | None, wishes: "Wishes", screen: Screen
) -> tuple["Source", "Plan"]:
    """A source, and what becomes of it; weights at the Hub are not read."""
    from mlx_gemma4.convert.job import plan_source

    source = open_source(name, out, screen)
    return source, plan_source(source, wishes, name, measure=not source.at_hub)


def measured(
    source: "Source", wishes: "Wishes", name: str, announced: "Plan", screen: Screen
) -> "Plan":
    """The Hub's headers do not tell all: samples of weights that were trained for a
    grid are read."""
    from mlx_gemma4.convert.job import plan_source

    screen.passing("Looking for the grid of the weights …")
    try:
        plan = plan_source(source, wishes, name)
    finally:
        screen.passed()
    for warning in plan.warnings:
        if warning not in announced.warnings:
            screen.note(f"Warning: {warning}")
    return plan
