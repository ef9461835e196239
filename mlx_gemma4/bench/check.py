"""The process in which kernels are tried with a model: one may hang it, or end it.

    python -m mlx_gemma4.bench.check FOLDER DTYPE [USE…]

leaves out what is named, and tells what it finds out in lines of JSON:

- ["trying", USE] before it tries a use, and ["out", USE, WHY] where that does not do;
- ["on", USES] at the end, and before it ["out", "all", WHY] if they do not do together.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import mlx.core as mx

from ..checkpoint.load import prepare_model
from .auto import ALL
from .child import answers
from .sample import sample_of
from .trials import Sampled

SECONDS = 1.2  # to time all uses

Say = Callable[[Sequence[object]], None]


def check(sampled: Sampled, left_out: set[str], say: Say) -> None:
    """Tries all uses but those that are left out."""
    uses = [use for use in sampled.uses() if use not in left_out]
    uses = kept(uses, sampled.fault, say)
    share = SECONDS / max(1, len(uses))
    uses = kept(uses, lambda use: sampled.loss(use, share), say)
    if uses and (why := tried(ALL, lambda _: sampled.fault_together(uses), say)):
        say(("out", ALL, why))
        uses = []
    say(("on", uses))


def kept(
    uses: Sequence[str], wrong: Callable[[str], str | None], say: Say
) -> list[str]:
    """The uses with which nothing is wrong; why the others are out is said."""
    left = []
    for use in uses:
        if why := tried(use, wrong, say):
            say(("out", use, why))
        else:
            left.append(use)
    return left


def tried(use: str, wrong: Callable[[str], str | None], say: Say) -> str | None:
    """What is wrong with `use`, a failure too; which may also end this process."""
    say(("trying", use))
    try:
        return wrong(use)
    except (RuntimeError, ValueError) as error:
        mx.eval(mx.ones(1) + 1)  # after a fault of the GPU nothing works any more
        return f"fails: {' '.join(str(error).split())[:200]}"


def main() -> None:
    say = answers()
    folder, dtype, *left_out = sys.argv[1:]
    prepared = prepare_model(Path(folder), getattr(mx, dtype))
    check(Sampled(sample_of(prepared)), set(left_out), say)


if __name__ == "__main__":
    main()
