"""Which kernels are faster here, and right: what `GEMMA4_KERNELS=auto` goes by.

A benchmark measures every kernel alone against none, in rounds (see timing.py). One is
remembered whose rounds are all faster than all of those without it, at reading a prompt
or at decoding, and slower at neither, and whose results are those of MLX's own
operations.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import mlx.core as mx

from ..kernels import MOST_ROWS, NAMES, comparing, using
from ..kernels.choice import Conditions, Note, remember
from ..model import Gemma4
from .rounds import FEWEST, Verdict, compared
from .timing import Series, default_contexts, only, prompt_of

# Tokens read behind a prompt to compare results: a step of decoding, a draft, a step.
BEHIND = (1, MOST_ROWS, 1)
WITHIN = 0.03  # of the largest value: roundings of two ways in bfloat16


def learn(
    model: Gemma4, found: Mapping[int, Sequence[Series]], rounds: int, note: Note
) -> None:
    """Remember what a benchmark of `model` found, by context, where there is Metal.

    Fewer rounds than a verdict takes change nothing.
    """
    if mx.metal.is_available() and rounds >= FEWEST:
        names = agreeing(model, faster(found.values()), note)
        remember(Conditions.of(model, model.config.text_config), names, note)


def faster(found: Iterable[Sequence[Series]]) -> tuple[str, ...]:
    """Kernels that gain something at one context at least, and lose or fail at none.

    found: by context, the series without kernels and behind it those of `only` one.
    """
    verdicts: dict[str, set[Verdict]] = {only(name): set() for name in NAMES}
    for base, *others in found:
        for failed in verdicts.keys() - {series.name for series in others}:
            verdicts[failed].add("slower")
        for series in others:
            if series.name in verdicts:
                verdicts[series.name] |= {
                    compared(series.decode_rates, base.decode_rates),
                    compared(series.prefill_rates, base.prefill_rates),
                }
    return tuple(
        name
        for name in NAMES
        if "faster" in verdicts[only(name)] and "slower" not in verdicts[only(name)]
    )


def agreeing(model: Gemma4, names: Sequence[str], note: Note) -> tuple[str, ...]:
    """Those of the kernels `names` that compute with `model` what they should."""
    context = default_contexts(model, sum(BEHIND))[0]
    right = []
    for name in names:
        try:
            far = farthest(model, name, context)
        except (RuntimeError, ValueError) as error:
            note(f"{only(name)} fails here and is left out: {error}")
            continue
        if far is None:  # another chance than the kernel made it look faster
            continue
        if far <= WITHIN:
            right.append(name)
        else:
            wrong = "wrong" if math.isfinite(far) else "not finite"
            note(f"{only(name)} is left out: its results are {wrong} here.")
    mx.clear_cache()
    return tuple(right)


def farthest(
    model: Gemma4, name: str, context: int, make: Callable[..., Any] | None = None
) -> float | None:
    """The largest difference of kernel `name` from its twin (see `comparing`).

    It reads `context` tokens and then as many as a step of decoding may have. NaN where
    a value is not finite; None where the model does not use the kernel.
    make: in place of `mx.fast.metal_kernel`, for tests without Metal.
    """
    cache = model.make_cache()
    differences: list[float] = []
    with using(name, make=make), comparing() as found:
        for size in (context, *BEHIND):
            tokens = prompt_of(size, model.config.text_config.token_rows)
            model(mx.array([tokens]), cache=cache)
            mx.eval(found)  # all there is to compute: no logits
            differences += [cast(float, each.item()) for each in found]
            found.clear()
    if any(map(math.isnan, differences)):
        return math.nan
    return max(differences, default=None)
