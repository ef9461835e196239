"""Conversions of several sizes, with what each keeps of the source's predictions.

Nothing is converted for it: the source is run layer by layer in all versions. What each
matrix bears is measured on one half of the text, what comes of it on the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlx_gemma4.config import Config
from mlx_gemma4.errors import DataError
from mlx_gemma4.prompt.vocabulary import check_tokens

from .check import Fidelity
from .job import plan_source
from .layerwise import Advance, Layerwise, Text, Version
from .mixed import Harm, choices, mix
from .output import CONFIG
from .plan import Plan
from .recipes import MIXED
from .sensitivity import measured_harm, versions
from .source import Source
from .survey import Wishes

SHARES = (0.8, 0.9, 1.0, 1.15, 1.35, 1.7)  # of the target: the sizes that are shown
PIECE = 256  # tokens read together
PROBED, COMPARED = 256, 1024  # the most predictions that each half is measured on
PADDED = 2  # times as many positions, at most, where pieces differ in length


def nothing(count: int) -> None:
    """Nobody is told how far it is."""


@dataclass(frozen=True)
class Offer:
    plan: Plan
    fidelity: Fidelity

    def as_dict(self) -> dict[str, Any]:
        return {
            "recipe": self.plan.recipe,
            "bytes": self.plan.out_bytes,
            "bits_per_weight": round(self.plan.bits_per_weight, 4),
            "fidelity": self.fidelity.as_dict(),
        }


class Measuring:
    """What can be made of a source by some wishes, measured before it is made.

    name: of the source. sequences: the text, as token ids behind the one that begins.
    Raises RecipeError for what cannot be, DataError for too little text, and
    CheckpointError for a source without a row for one of the ids.
    """

    def __init__(
        self,
        source: Source,
        wishes: Wishes,
        name: str,
        sequences: Sequence[Sequence[int]],
    ) -> None:
        self.wishes = wishes
        config = Config.from_file(source.folder / CONFIG)
        check_tokens(sequences, config)
        pad = config.text_config.pad_token_id
        self.probed, self.compared = (Text.of(p, pad) for p in portions(sequences))
        self.wished = plan_source(source, wishes, name)
        self.usual = plan_source(source, Wishes("4bit", wishes.overrides), name)
        self.roots = plan_source(source, Wishes("4bit"), name).tensors
        self.model = Layerwise(source, self.roots)
        self.rivals: list[Plan] = []  # mixes of the size that was asked for

    @property
    def probes(self) -> int:
        """How often `harm` calls its `advance`."""
        return self.model.steps(versions(self.roots))

    def harm(self, advance: Advance = nothing) -> Harm:
        return measured_harm(self.model, self.roots, self.probed, advance)

    def plans(self, harm: Harm | None = None) -> list[Plan]:
        """What to compare, smallest first: the wish, mixes of sizes around the one that
        was asked for, and the recipe 4bit."""
        target = self.wishes.target_bytes
        if self.wishes.recipe != MIXED or target is None:
            return sorted((self.wished, self.usual), key=lambda plan: plan.out_bytes)
        packings = choices(self.roots, self.wishes.overrides)
        least, most = (sum(each[i].out_bytes for each in packings) for i in (0, -1))
        sizes = {min(max(least, round(s * target)), most) for s in SHARES}
        mixes = {size: self._mixed(size, harm) for size in sorted(sizes)}
        # Should estimates do better, theirs is offered in its place.
        self.rivals = [mixes[target], self._mixed(target, None)]
        found = [*mixes.values(), self.rivals[1]]
        unlike = {tuple(t.packing for t in plan.tensors): plan for plan in found}
        return sorted((*unlike.values(), self.usual), key=lambda plan: plan.out_bytes)

    def _mixed(self, size: int, harm: Harm | None) -> Plan:
        tensors = mix(self.roots, size, harm, self.wishes.overrides)
        return replace(self.wished, tensors=tuple(tensors))

    def steps(self, plans: Sequence[Plan]) -> int:
        """How often `offers` calls its `advance`."""
        return self.model.steps([_version(plan) for plan in plans])

    def offers(self, plans: Sequence[Plan], advance: Advance = nothing) -> list[Offer]:
        """The same with how far each would be from the source; of two mixes of one
        size the nearer."""
        found = self.model.compare([_version(p) for p in plans], self.compared, advance)
        offers = [Offer(*pair) for pair in zip(plans, found, strict=True)]
        rivals = [o for o in offers if any(o.plan is plan for plan in self.rivals)]
        worse = sorted(rivals, key=_divergence)[1:]
        return [o for o in offers if all(o is not other for other in worse)]

    def best(self, offers: Sequence[Offer]) -> Offer:
        """The nearest to the source of those that fit; the one that was asked for by
        name."""
        target = self.wishes.target_bytes
        if self.wishes.recipe != MIXED or target is None:
            return next(o for o in offers if o.plan.recipe == self.wishes.recipe)
        fit = (offer for offer in offers if offer.plan.out_bytes <= target)
        return min(fit, key=_divergence)


def _divergence(offer: Offer) -> float:
    return offer.fidelity.kl_mean


def portions(
    sequences: Sequence[Sequence[int]],
) -> tuple[list[list[int]], list[list[int]]]:
    """Pieces to measure matrices on, and others to compare the results on.

    Raises DataError where there is too little text for both.
    """
    pieces = [
        [start, *body[at : at + PIECE]]
        for start, *body in sequences
        for at in range(0, len(body), PIECE)
    ]
    if len(pieces) == 1:
        (start, *body), half = pieces[0], len(pieces[0]) // 2
        pieces = [[start, *body[:half]], [start, *body[half:]]]
    if len(pieces) < 2 or min(map(len, pieces)) < 2:
        raise DataError("There is too little text to measure on: give a page or more.")
    return _some(pieces[1::2], PROBED), _some(pieces[::2], COMPARED)


def _some(pieces: list[list[int]], most: int) -> list[list[int]]:
    """As many as have about `most` tokens, from everywhere."""
    longest, total = max(map(len, pieces)), sum(map(len, pieces))
    count = min(most * len(pieces) // total, PADDED * most // longest, len(pieces))
    count = max(1, count)
    return [pieces[i * len(pieces) // count] for i in range(count)]


def _version(plan: Plan) -> Version:
    return {tensor.name: tensor for tensor in plan.tensors if tensor.packing}
