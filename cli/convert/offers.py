"""What a model would lose in several sizes, measured and shown before the work."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mlx_gemma4.reading.sizes import size

from ..errors import unread
from ..progress import Progress
from ..render import Screen, fitted
from ..tables import columns

if TYPE_CHECKING:
    from mlx_gemma4.convert.choice import Choice
    from mlx_gemma4.convert.layerwise import Advance
    from mlx_gemma4.convert.offers import Measuring, Offer
    from mlx_gemma4.convert.source import Source
    from mlx_gemma4.convert.survey import Wishes

HEAD = ("", "size", "bits", "mean KL", "99th %", "same token")
CHOSEN = "<-"
QUARTERS = 4

Found = TypeVar("Found")


def text_of(data: Path | None, folder: Path) -> list[list[int]]:
    """The text that decides, for the tokenizer of `folder`: a user's, or the sample.

    Raises DataError for what cannot be read, or is too little to measure on.
    """
    from mlx_gemma4.convert.check import encoded
    from mlx_gemma4.convert.data import read_data
    from mlx_gemma4.convert.offers import portions
    from mlx_gemma4.convert.sample import TEXTS

    sequences = read_data(data, folder) if data else encoded(folder, TEXTS)
    portions(sequences)
    return sequences


def choose(
    source: "Source",
    out: Path | None,
    wishes: "Wishes",
    name: str,
    text: list[list[int]],
    screen: Screen,
    data: Path | None = None,
) -> "Choice":
    """Measures, unless it was done for the same conversion, and tells.

    text: of the file `data`; None is the short sample.
    """
    from mlx_gemma4.convert import choice
    from mlx_gemma4.convert.job import plan_source

    key = choice.choice_key(source, wishes, text)
    if out is not None:
        plan = plan_source(source, wishes, name)
        before = choice.kept(out, key, plan)
        if before is not None:
            screen.note("The sizes were measured before: the same one is made.")
            return before
    from mlx_gemma4.convert.offers import Measuring

    measuring = Measuring(source, wishes, name, text)
    try:
        offers = _measure(measuring, screen)
    finally:
        measuring.model.close()
    best = measuring.best(offers)
    show(offers, best, str(data) if data else "the short sample", screen)
    return choice.chosen(key, best, offers)


def _measure(measuring: "Measuring", screen: Screen) -> "list[Offer]":
    from mlx_gemma4.convert.recipes import MIXED

    if not screen.draws:  # no bar will tell
        screen.note("Measuring what is lost, layer by layer: this takes a while.")
    harm = None
    if measuring.wishes.recipe == MIXED:
        harm = _behind_bar(
            "Measuring matrices", measuring.probes, measuring.harm, screen
        )
    plans = measuring.plans(harm)
    compare = partial(measuring.offers, plans)
    return _behind_bar("Measuring sizes", measuring.steps(plans), compare, screen)


def _behind_bar(
    label: str, steps: int, work: "Callable[[Advance], Found]", screen: Screen
) -> "Found":
    """Where nothing is drawn a line now and then tells how far it is."""
    with Progress(screen, label, steps) as bar:

        def advance(count: int) -> None:
            before = bar.done
            bar.advance(count)
            quarter, told = (int(QUARTERS * n / steps) for n in (bar.done, before))
            if quarter > told and not screen.draws:
                screen.note(f"{label}: {quarter * 100 // QUARTERS} %.")

        return work(advance)


def show(offers: "list[Offer]", best: "Offer", text: str, screen: Screen) -> None:
    with unread():
        if screen.as_json:
            screen.json(
                {
                    "offers": [offer.as_dict() for offer in offers],
                    "chosen": offers.index(best),
                    "text": text,
                }
            )
        else:
            print(table(offers, best, text), flush=True)


def table(offers: "list[Offer]", best: "Offer", text: str) -> str:
    """What each size keeps of the source's predictions, smallest first."""
    rows = [(*HEAD, ""), *(_row(offer, offer is best) for offer in offers)]
    told = f"Against the source, on {best.fidelity.tokens:,} predictions of {text}:"
    told = fitted(told, sys.stdout)
    return "\n".join([told, "", *columns(rows, left=(0, 6)), ""])


def _row(offer: "Offer", is_best: bool) -> tuple[str, ...]:
    found = offer.fidelity
    return (
        offer.plan.recipe,
        size(offer.plan.out_bytes),
        f"{offer.plan.bits_per_weight:.2f}",
        f"{found.kl_mean:.4f}",
        f"{found.kl_p99:.3f}",
        f"{found.top1:.1%}",
        CHOSEN if is_best else "",
    )
