"""Larger command buffers, among what `gemma4 bench` compares where there is Metal."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from mlx_gemma4.bench.buffers import Settings, larger, learn
from mlx_gemma4.bench.ours import NAME, Larger
from mlx_gemma4.bench.timing import Contender, Series, memory_needed
from mlx_gemma4.bench.traffic import parameters
from mlx_gemma4.config.ple import Ple
from mlx_gemma4.device import memory_limit
from mlx_gemma4.errors import PeerError
from mlx_gemma4.model import Gemma4

from ..render import Screen

LAYERS = "language_model.layers."


@dataclass(frozen=True)
class Added:
    """What stands against them, and what is set for them."""

    base: str
    settings: Settings


def add_larger(
    compared: dict[str, Contender],
    stack: ExitStack,
    folder: Path,
    model: Gemma4,
    tokens: int,
    screen: Screen,
    kv_bits: int | None = None,
) -> Added | None:
    """Adds them to what is `compared`; None where they would be no larger, are set
    already, or memory does not hold one more copy."""
    size = sum(x.nbytes for name, x in parameters(model) if name.startswith(LAYERS))
    settings = larger(size)
    ours = [name for name in compared if name.startswith("kernels")]
    copies = 2 + len(compared) - len(ours)
    room = copies * memory_needed(model, tokens) <= memory_limit()
    if not (mx.metal.is_available() and settings and room):
        return None
    ple = Ple.MEMORY if model.language_model.table is None else Ple.DISK
    screen.passing("Loading it with larger buffers …")
    try:
        compared[NAME] = stack.enter_context(Larger(folder, settings, ple, kv_bits))
    except PeerError as error:
        screen.passed()
        screen.note(f"{NAME} are left out. {error}")
        return None
    finally:
        screen.passed()
    return Added(ours[-1], settings)


def learn_larger(
    model: str, added: Added, found: Mapping[int, Sequence[Series]], screen: Screen
) -> None:
    """Remembers whether they are better, and says so where that is known."""
    pairs = []
    for series in found.values():
        by_name = {each.name: each for each in series}
        if added.base in by_name and NAME in by_name:
            pairs.append((by_name[added.base], by_name[NAME]))
    if said := learn(model, added.settings, pairs):
        screen.note(said)
