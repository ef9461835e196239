"""What a model would lose in several sizes, measured and shown before the work."""

from pathlib import Path
from typing import TYPE_CHECKING

from mlx_gemma4.reading.sizes import size

from ..errors import unread
from ..progress import Progress
from ..render import Screen
from ..tables import columns

if TYPE_CHECKING:
    from mlx_gemma4.convert.choice import Choice
    from mlx_gemma4.convert.offers import Measuring, Offer
    from mlx_gemma4.convert.source import Source
    from mlx_gemma4.convert.survey import Wishes

HEAD = ("", "size", "bits", "mean KL", "99th %", "same token")
CHOSEN = "<-"


def choose(
    source: "Source",
    out: Path | None,
    wishes: "Wishes",
    name: str,
    data: Path | None,
    screen: Screen,
) -> "Choice":
    """Measures, unless it was done for the same conversion, and tells.

    data: the user's text; None is a short sample.
    """
    from mlx_gemma4.convert import choice
    from mlx_gemma4.convert.check import encoded
    from mlx_gemma4.convert.data import read_data
    from mlx_gemma4.convert.job import plan_source
    from mlx_gemma4.convert.sample import TEXTS

    folder = source.folder
    sequences = read_data(data, folder) if data else encoded(folder, TEXTS)
    key = choice.choice_key(source, wishes, sequences)
    if out is not None:
        plan = plan_source(source, wishes, name)
        before = choice.kept(out, key, plan)
        if before is not None:
            screen.note("The sizes were measured before: the same one is made.")
            return before
    from mlx_gemma4.convert.offers import Measuring

    measuring = Measuring(source, wishes, name, sequences)
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
        with Progress(screen, "Measuring matrices", measuring.probes) as bar:
            harm = measuring.harm(bar.advance)
    plans = measuring.plans(harm)
    with Progress(screen, "Measuring sizes", measuring.steps(plans)) as bar:
        return measuring.offers(plans, bar.advance)


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
