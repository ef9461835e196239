"""What proposes an answer's next tokens: the drafter, the text so far, or both.

Drafts change how long an answer takes, never what it says.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import mlx.core as mx

from ..assistant.drafter import Drafter
from ..cache import LayerCache
from ..errors import ChatError
from ..model import Gemma4
from .lookup import Lookup
from .pace import Pace, Source, clock_here

Draft = Literal["auto", "assistant", "lookup", "off"]
DRAFTS: tuple[Draft, ...] = ("auto", "assistant", "lookup", "off")


@dataclass(frozen=True)
class Proposal:
    """Tokens int [1, k] that may come next."""

    tokens: mx.array
    source: Source

    @property
    def count(self) -> int:
        return self.tokens.shape[1]

    def first(self, count: int) -> "Proposal":
        return replace(self, tokens=self.tokens[:, :count])


class Drafts:
    """Those of one answer to `prompt`, whose tokens it follows.

    ends: tokens behind which nothing comes.
    """

    def __init__(
        self,
        model: Gemma4,
        drafter: Drafter | None,
        lookup: Lookup | None,
        pace: Pace,
        ends: Sequence[int],
    ):
        self.ends = frozenset(ends)
        self.drafted = self.accepted = 0
        self._model, self._drafter, self._lookup = model, drafter, lookup
        self._pace, self._clock = pace, clock_here()
        self._last = 0.0

    def begin(self, context: int) -> None:
        """Decoding begins behind so many tokens: from here on it is timed."""
        self._pace.begin(context)
        self._last = self._clock()

    @property
    def gained(self) -> float | None:
        """Seconds, as far as that can be told from what was measured."""
        return self._pace.gained

    @property
    def wanted(self) -> bool:
        """Whether to wait for the last token, and to propose what follows it."""
        if self._drafter is not None and self._pace.rows(Source.ASSISTANT):
            return True
        found = self._lookup is not None and self._lookup.following is not None
        return found and self._pace.rows(Source.LOOKUP) > 0

    def propose(
        self,
        token: int,
        hidden: mx.array,
        cache: Sequence[LayerCache],
        room: int,
    ) -> Proposal | None:
        """What may follow `token`, at most `room` of it; the longer proposal of two."""
        found: list[int] = []
        if self._lookup is not None:
            asked = min(self._pace.rows(Source.LOOKUP), room)
            found = self._lookup.propose(asked)
        asked = 0
        if self._drafter is not None:
            asked = min(self._pace.rows(Source.ASSISTANT), room)
        if found and len(found) >= asked:
            return Proposal(mx.array([found], mx.int32), Source.LOOKUP)
        if self._drafter is None or not asked:
            return None
        tokens = self._drafter.propose(self._model, token, hidden, cache, asked)
        return Proposal(tokens, Source.ASSISTANT)

    def follow(self, token: int, proposal: Proposal | None = None) -> None:
        """Goes on behind a token of the answer, that `proposal` may have foretold."""
        if self._lookup is None:
            return
        expected = self._lookup.following
        self._lookup.follow(token)
        if proposal is None or proposal.source is not Source.LOOKUP:
            self._pace.foretold(None if expected is None else expected == token)

    def passed(self) -> None:
        """A step is over whose time says nothing: others were in it."""
        self._last = self._clock()

    def took(self, proposal: Proposal | None, accepted: int, tokens: int) -> None:
        """A step (None) or a round is over, which gave so many tokens."""
        now = self._clock()
        seconds, self._last = now - self._last, now
        if proposal is None:
            self._pace.took(None, 0, 0, seconds, tokens)
            return
        self.drafted += proposal.count
        self.accepted += accepted
        self._pace.took(proposal.source, proposal.count, accepted, seconds, tokens)


class Paces:
    """What was learned of a model's drafts, by how they were asked for."""

    def __init__(self) -> None:
        self.by_draft: dict[str, Pace] = {}

    def __reduce__(self) -> "tuple[type[Paces], tuple[()]]":
        """A copy of a model learns its own."""
        return Paces, ()


def drafts_for(
    model: Gemma4, draft: str | None, ends: Sequence[int], prompt: Sequence[int]
) -> Drafts | None:
    """Those that are asked for; None decodes without any.

    draft: None is "auto" where the model has a drafter, else "off".

    Raises ChatError for another name, and for a drafter that the model has not.
    """
    drafter = model.drafter
    if draft is None:
        draft = "off" if drafter is None else "auto"
    if draft not in DRAFTS:
        raise ChatError(f"draft is {draft!r}; it must be one of {', '.join(DRAFTS)}.")
    if draft == "off":
        return None
    if draft == "assistant" and drafter is None:
        raise ChatError(
            "draft is 'assistant', but this model was loaded without a drafter: "
            "load it with draft=FOLDER, or take 'lookup'."
        )
    if not isinstance(model.paces, Paces):
        model.paces = Paces()
    pace = model.paces.by_draft.setdefault(draft, Pace(always=draft != "auto"))
    lookup = None if draft == "assistant" else Lookup(prompt)
    return Drafts(model, None if draft == "lookup" else drafter, lookup, pace, ends)
