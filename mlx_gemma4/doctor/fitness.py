"""What is wrong with a machine for running models, and what to do about it."""

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from ..errors import ChatError
from ..kernels import launch
from ..reading.sizes import size
from .findings import Findings
from .machine import Machine, existing

OLDEST_MACOS, OLDEST_GLIBC = (14, 0), (2, 35)
# The smallest real model, E2B: converted to 4 bits, and as Google publishes it.
LEAST_MEMORY, LEAST_DISK = 8 * 10**9, 4 * 10**9
SMALLEST, PUBLISHED = 3_581_101_896, 10_246_621_918


@dataclass(frozen=True)
class Requirement:
    """A package that ours needs: what is installed, and which versions would do."""

    name: str
    installed: str | None
    wanted: str


def check_machine(machine: Machine) -> Findings:
    say = Findings()
    _check_processor(machine, say)
    _check_system(say)
    _check_packages(say)
    _check_memory(machine, say)
    _check_folder(machine.hub_cache, "models cannot be downloaded", say)
    _check_folder(machine.state, "history and measurements are not kept", say)
    _check_disk(machine, say)
    _check_kernels(machine, say)
    return say


def _check_processor(machine: Machine, say: Findings) -> None:
    if sys.platform == "darwin" and not machine.metal:
        say.problem(
            "metal", "MLX finds no Metal here: its GPU is not used. Reinstall mlx."
        )
    elif machine.metal:
        say.ok("metal", f"MLX uses the {machine.device}.")
    else:
        say.ok("metal", f"There is no Metal here; MLX uses the {machine.device}.")


def _check_system(say: Findings) -> None:
    if sys.platform == "darwin":
        _check_version("macOS", platform.mac_ver()[0], OLDEST_MACOS, say)
    else:
        library, stated = platform.libc_ver()
        _check_version("glibc", stated if library == "glibc" else "", OLDEST_GLIBC, say)


def _check_version(
    name: str, stated: str, oldest: tuple[int, int], say: Findings
) -> None:
    wanted = f"{oldest[0]}.{oldest[1]}"
    try:
        have = tuple(int(part) for part in stated.split(".")[:2])
    except ValueError:
        say.unknown("system", f"The version of {name} cannot be told.")
        return
    if have < oldest:
        say.problem("system", f"{name} is {stated}; MLX needs {wanted} or newer.")
    else:
        say.ok("system", f"{name} {stated} is new enough.")


def _check_packages(say: Findings) -> None:
    try:
        needed = list(_requirements())
    except PackageNotFoundError:
        say.unknown("packages", "mlx-gemma4 is not installed: it runs from its source.")
        return
    for each in needed:
        found = f"is {each.installed}" if each.installed else "is not installed"
        text = f"{each.name} {found}; {each.wanted or 'it'} is needed: install again."
        # Other packages in another version mostly work; MLX decides what is computed.
        if each.name == "mlx" or not each.installed:
            say.problem("packages", text)
        else:
            say.warn("packages", text)
    if not needed:
        say.ok("packages", "All are there, in versions that were tested.")


def _requirements() -> Iterator[Requirement]:
    """Those that are not met. Raises PackageNotFoundError in a clone."""
    from packaging.requirements import Requirement as Stated

    for text in requires("mlx-gemma4") or ():
        stated = Stated(text)
        if stated.marker and not stated.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = version(stated.name)
        except PackageNotFoundError:
            installed = None
        if not installed or not stated.specifier.contains(installed, prereleases=True):
            yield Requirement(stated.name, installed, str(stated.specifier))


def _check_memory(machine: Machine, say: Findings) -> None:
    limits = (machine.working_set, machine.container, machine.memory)
    known = [limit for limit in limits if limit is not None]
    if not known:
        say.unknown("memory", "How much memory there is cannot be told.")
        return
    text = f"A model may use {size(min(known))}; E2B in 4 bits takes {size(SMALLEST)}."
    if machine.memory is not None and machine.memory < LEAST_MEMORY:
        say.warn("memory", f"{text} Little is left for anything else.")
    elif min(known) < SMALLEST:
        say.warn("memory", text)
    else:
        say.ok("memory", text)


def _check_folder(folder: Path, harm: str, say: Findings) -> None:
    place = existing(folder)
    if not place.is_dir():
        say.warn("folders", f"{place} is a file, and no folder: {harm}.")
    elif not os.access(place, os.W_OK | os.X_OK):
        say.warn("folders", f"{place} cannot be written: {harm}.")
    else:
        say.ok("folders", f"{folder} can be written.")


def _check_disk(machine: Machine, say: Findings) -> None:
    if machine.disk_free is None:
        say.unknown("disk", "How much of the disk is free cannot be told.")
        return
    text = (
        f"{size(machine.disk_free)} are free where models go; E2B takes "
        f"{size(PUBLISHED)}, in 4 bits {size(SMALLEST)}."
    )
    if machine.disk_free < LEAST_DISK:
        say.warn("disk", text)
    else:
        say.ok("disk", text)


def _check_kernels(machine: Machine, say: Findings) -> None:
    try:
        launch.parse(machine.environment.get("GEMMA4_KERNELS", ""))
    except ChatError as error:
        say.problem("kernels", str(error))
