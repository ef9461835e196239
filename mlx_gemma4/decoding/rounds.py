"""From one drawn token to the next: step by step, one ahead, or by rounds of drafts.

A round reads the last token and the drafts behind it at once. What is drawn at each of
them is what would have been drawn one by one, as long as the drafts before it are what
was drawn; the others are taken back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import mlx.core as mx

from ..cache import rollback
from ..errors import ChatError
from ..model import Gemma4
from ..sampling import Sampler
from .drafts import Drafts, Proposal
from .prefill import Prompt, prefill
from .prefix import PrefixCache
from .step import Found
from .stream import Steps, Wanted, wanted

if TYPE_CHECKING:
    from ..forms.guide import Guide

CLEAR_EVERY = 256  # decoded tokens between returns of unused memory


@dataclass
class Decoding:
    """An answer under way.

    token: int [1, 1], the last that was drawn; it is not read yet.
    hidden: [1, 1, hidden], what it was drawn from.
    """

    model: Gemma4
    token: mx.array
    hidden: mx.array
    sampler: Sampler
    prefix: PrefixCache
    drafts: Drafts | None = None
    count: int = 0  # tokens that were given away
    alone: bool = True  # whether nobody else is answered now

    def free(self, limit: int) -> Steps[int, None]:
        """Yield the answer's tokens, at most `limit`."""
        while self.count < limit:
            room = limit - self.count - 1
            most = room - 1  # drafts: the last token is always drawn
            if most < 1 or not self._drafts_fit():
                yield from self._ahead(room > 0)
                continue
            value = cast(int, self.token.item())
            assert self.drafts is not None
            self.drafts.follow(value)
            hidden, cache = self.hidden, self.prefix.cache
            proposal = self.drafts.propose(value, hidden, cache, most)
            yield from self._round([value], proposal)

    def guided(self, guide: "Guide", prefill_step: int) -> Steps[int, None]:
        """The same where `guide` says what may follow, and at once what must."""
        while True:
            value = cast(int, self.token.item())
            guide.advance(value)
            run = [value, *guide.forced()]
            room = guide.limit - self.count
            guide.cut = len(run) > room
            run = run[:room]
            if value in guide.ends or len(run) == room:
                yield from run
                return
            if self.drafts is not None:
                for token in run:
                    self.drafts.follow(token)
            if run[1:]:  # in chunks: they may be many
                prompt = Prompt(run, (), run)
                found = prefill(self.model, prompt, self.prefix, 0, prefill_step)
                mx.async_eval(found[0])
                self.sampler.note(mx.array([run[1:]]))
                yield from self._verified(run, found, None, [State.of(guide)])
                continue
            proposal = None
            if self.drafts is not None and self.alone and self.drafts.wanted:
                hidden, cache = self.hidden, self.prefix.cache
                most = room - 2  # what is drawn behind them may be the last
                proposal = self.drafts.propose(value, hidden, cache, most)
            yield from self._round(run, proposal, guide)

    def _drafts_fit(self) -> bool:
        """Whether drafts are wanted now: then the last token is waited for, since
        nothing comes behind an end. Rows of others take the place of drafts."""
        drafts = self.drafts
        if drafts is None or not self.alone or not drafts.wanted:
            return False
        return self.token.item() not in drafts.ends

    def _found(self, tokens: mx.array) -> Steps[Wanted, Found]:
        given = yield from wanted(tokens, self.prefix.cache)
        self.alone = given.alone
        return given.found

    def _ahead(self, more: bool) -> Steps[int, None]:
        """The last token, while the next is computed."""
        ahead = None
        if more:
            logits, self.hidden = yield from self._found(self.token)
            ahead = self.sampler(logits[:, -1])
            mx.async_eval(ahead)
        value = cast(int, self.token.item())
        if ahead is not None:
            self.prefix.extend([value])
            self.token = ahead
        yield from self._given([value])
        if self.drafts is not None:
            self.drafts.follow(value)
            self._took(None, 0, 1)

    def _took(self, proposal: Proposal | None, accepted: int, tokens: int) -> None:
        assert self.drafts is not None
        if self.alone:
            self.drafts.took(proposal, accepted, tokens)
        else:
            self.drafts.passed()

    def _round(
        self, run: list[int], proposal: Proposal | None, guide: "Guide | None" = None
    ) -> Steps[int, None]:
        """The last token, and the drafts behind it that prove to be right."""
        states: list[State] = []
        if guide is not None and proposal is not None:
            states = foreseen(guide, proposal.tokens, self.count + len(run))
            proposal = proposal.first(len(states) - 1)
        tokens = self.token
        if proposal is not None:
            drafts = proposal.tokens.astype(tokens.dtype)
            tokens = mx.concatenate([tokens, drafts], axis=1)
        found = yield from self._found(tokens)
        self.prefix.extend(run)
        mx.async_eval(found[0])
        if guide is not None and not states:  # while the GPU works
            states = [State.of(guide)]
        yield from self._verified(run, found, proposal, states)

    def _verified(
        self,
        run: list[int],
        found: Found,
        proposal: Proposal | None,
        states: "Sequence[State]",
    ) -> Steps[int, None]:
        """`run`, which was read, and what of the proposal is what was drawn; then the
        caches hold that, and the last token is what was drawn behind it."""
        logits, hidden = found
        drafts = mx.zeros((1, 0), mx.int32) if proposal is None else proposal.tokens
        drawn = self.sampler.draw(logits[0], drafts, allowed_at(states))
        mx.async_eval(drawn, drafts)
        taken, count, cache = 0, drafts.shape[1], self.prefix.cache
        right: list[int] = []
        whole = False
        try:
            yield from self._given(run)
            values = cast(list[int], drawn[:, 0].tolist())
            right = cast(list[int], drafts[0].tolist())
            while taken < count and values[taken] == right[taken]:
                if self.sampler.count == self.sampler.redrawn:
                    break  # another than this, since a thought is closed
                self.sampler.note(drawn[taken : taken + 1])
                taken += 1
                if states:
                    states[0].guide.resume(states[taken].guide)
                if self.drafts is not None:
                    self.drafts.follow(right[taken - 1], proposal)
                yield from self._given(right[taken - 1 : taken])
            whole = True
        finally:  # also where nobody listens any more
            if self.prefix.cache is cache:  # or it was begun anew meanwhile
                rollback(cache, count - taken)
                self.prefix.extend(right[:taken])
            if self.drafts is not None and (whole or taken):
                # Nobody knows of those behind the end whether they were right.
                known = proposal if whole or proposal is None else proposal.first(taken)
                self._took(known, taken, len(run) + taken)
        row = slice(taken, taken + 1)
        self.token, self.hidden = drawn[row], hidden[:, row]
        if self.sampler.count == self.sampler.redrawn:
            allowed = allowed_at(states[row])
            self.token = self.sampler.draw(logits[0, row], drafts[:, :0], allowed)
        self.sampler.note(self.token)

    def _given(self, tokens: Sequence[int]) -> Steps[int, None]:
        before = self.count
        self.count += len(tokens)
        if before // CLEAR_EVERY < self.count // CLEAR_EVERY:
            mx.clear_cache()
        yield from tokens


@dataclass(frozen=True)
class State:
    """A guide behind some drafts, and what it allows there: bool [1, rows], or all."""

    guide: "Guide"
    allowed: mx.array | None

    @classmethod
    def of(cls, guide: "Guide") -> "State":
        return cls(guide, guide.allowed())


def foreseen(guide: "Guide", drafts: mx.array, count: int) -> list[State]:
    """`guide` as it is, and as it would be behind each of `drafts` int [1, k] in turn,
    up to one that may not come, ends the answer, or leaves no choice of what follows.

    count: of the answer's tokens.
    """
    states = [State.of(guide)]
    for token in cast(list[int], drafts[0].tolist()):
        allowed = states[-1].allowed
        if allowed is not None and not allowed[0, token].item():
            break
        behind, count = states[-1].guide.copy(), count + 1
        try:
            behind.advance(token)
            if token in guide.ends or count >= behind.limit or behind.forced():
                break
            states.append(State.of(behind))
        except ChatError:  # told where it is drawn
            break
    return states


def allowed_at(states: Sequence[State]) -> mx.array | None:
    """Of all states [n, rows]; None where any token may come anywhere."""
    masks = [state.allowed for state in states]
    known = [mask for mask in masks if mask is not None]
    if not known:
        return None
    everything = mx.ones_like(known[0])
    return mx.concatenate([everything if m is None else m for m in masks])
