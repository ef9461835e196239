"""Which token may come next in an answer that is held to something, and which must.

A form holds for the answer alone: a thought before it is free but for its end. A call
of a declared tool in the answer's place, or in an answer without a form, may have a
form of its own.
"""

from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, cast

import mlx.core as mx
import numpy as np

from ..chat.calls import QUOTE
from ..chat.splitter import CALL, CALL_END, CHANNEL, CHANNEL_END
from ..errors import ChatError
from ..prompt.processor import Processor
from .calls import Calls
from .closing import closers
from .form import Form, vocabulary_of

if TYPE_CHECKING:
    from llguidance import LLMatcher

BUDGET = 4096  # tokens of an answer, unless told otherwise
ROOM = 512  # for its end, once they are spent
TRIED = 256  # of the shortest tokens, where none of those that close may come


class Place(Enum):
    """Where the next token stands."""

    START = "before the answer"
    THOUGHT = "in a thought"
    BODY = "in the answer"
    CALL = "in a tool call"
    CALLED = "behind a tool call"


@dataclass(frozen=True)
class Doors:
    """What may begin in place of the answer, in ids; None where it may not."""

    thought: int | None
    thought_end: int | None
    call: int | None
    call_end: int | None


class Guide:
    """Follows one answer.

    form: of the answer; None leaves it free.
    rows: ids that the model has.
    inside_thought: the prompt has opened one.
    thinking: whether a thought may begin the answer.
    calls: what may be called; None: nothing.

    Raises ChatError for a form that llguidance cannot follow.
    """

    def __init__(
        self,
        form: Form | None,
        processor: Processor,
        rows: int,
        inside_thought: bool = False,
        thinking: bool = False,
        calls: Calls | None = None,
    ) -> None:
        self.ends = tuple(processor.generation.stop_tokens)
        self.rows, self.budget, self.limit = rows, BUDGET, BUDGET
        self.cut = False  # the answer ends within what was forced
        self.taken = 0  # of its tokens
        self._processor, self._calls = processor, calls
        self._form = self._matcher_of(form)
        self._call = self._matcher_of(calls and calls.form)
        self._needed = calls is not None and calls.needed
        self._most: int | None = None  # tokens taken, where nothing has to be closed
        self._begun = 0  # of them, before this run
        self._closing: Counter[int] = Counter()  # taken as the short way to an end
        special = processor.tokenizer.special_tokens
        self._doors = Doors(
            special.get(CHANNEL) if thinking else None,
            special.get(CHANNEL_END),
            special.get(CALL) if calls else None,
            special.get(CALL_END),
        )
        self._quote = special.get(QUOTE)
        self._in_text = False  # of a call, where only one mark is no word
        # Where nothing may be called, a thought must not end in a call.
        begin = [special[CALL]] if CALL in special and calls is None else []
        self._not_thought = [*self.ends, *begin]
        marks = (CHANNEL, CHANNEL_END, CALL, CALL_END)
        self._not_free = [special[mark] for mark in marks if mark in special]
        self.place = Place.THOUGHT if inside_thought else Place.START

    def _matcher_of(self, form: Form | None) -> "LLMatcher | None":
        if form is None:
            return None
        from llguidance.numpy import allocate_token_bitmask

        tokenizer = self._processor.tokenizer
        vocabulary = vocabulary_of(tokenizer, self.ends, form.names_marks)
        self._words = allocate_token_bitmask(1, vocabulary.vocab_size)
        return form.matcher(vocabulary)

    @property
    def _matcher(self) -> "LLMatcher | None":
        """What follows the present place, if it is held to anything."""
        if self.place is Place.CALL:
            return self._call
        return self._form if self.place in (Place.START, Place.BODY) else None

    def allot(self, most: int | None, room: int) -> None:
        """Sets `limit`: how many tokens may be drawn in all, where `most` are asked for
        and `room` is left. From the budget on, what has a form is brought to its end;
        what is free ends there."""
        free = self._form is None and not self._needed
        asked = room if free else BUDGET
        budget = asked if most is None else most
        self.limit = min(budget + ROOM, room)
        self._begun = self.taken
        self._most = self.taken + min(budget, room)
        kept = min(ROOM, self.limit // 2)
        self.budget = self.taken + max(1, min(budget, self.limit - kept))

    def follow(self, begun: Sequence[int]) -> list[int]:
        """Goes on behind an answer that has begun; returns it with what must follow."""
        whole: list[int] = []
        while len(whole) < len(begun):
            token = begun[len(whole)]
            self.advance(token)
            whole.append(token)
            rest = list(begun[len(whole) :])
            matcher = self._matcher
            if matcher is not None and self.place is not Place.START:
                # Text that was not ours may be cut into other tokens.
                forced = matcher.compute_ff_tokens()
                if all(a == b for a, b in zip(forced, rest, strict=False)):
                    whole += self.forced()
        return whole

    @property
    def is_valid(self) -> bool:
        """Whether the answer could end here, behind all that was forced."""
        if self.place in (Place.CALL, Place.CALLED):
            return self.place is Place.CALLED
        if self.place is Place.THOUGHT or self._needed:
            return False
        return self._form is None or self._form.is_accepting()

    @property
    def closes(self) -> bool:
        """Whether the budget is spent."""
        return self.taken >= self.budget

    def reason(
        self, found: Literal["length", "stop", "tool_calls"]
    ) -> Literal["length", "stop", "tool_calls", "closed"]:
        """Why the answer ends, where it did for want of tokens or by a token."""
        if self.cut or not self.is_valid:
            return "length"
        if self._closing:
            return "closed"
        if found == "length" and self.place is Place.CALLED:
            return "tool_calls"
        return "closed" if found == "length" and self._form is not None else found

    def allowed(self) -> mx.array | None:
        """The ids that may come next: bool [1, rows]; None for all of them."""
        matcher = self._matcher
        if self.place is Place.CALL and matcher is None:
            return None
        marks = np.zeros(self.rows, np.bool_)
        if self.place is Place.THOUGHT:
            marks[self._doors.thought_end] = True
            if not self.closes:
                marks[:] = True
                marks[self._not_thought] = False
        elif self.place is Place.CALLED:
            several = self._calls is not None and self._calls.several
            more = [self._doors.call] if several and not self.closes else []
            marks[[*self.ends, *more]] = True
        elif self.place is Place.CALL and matcher is not None:
            self._mark_held(marks, matcher)
        else:
            self._mark_answer(marks, matcher)
        return mx.array(cast(Any, marks))[None]

    def copy(self) -> "Guide":
        """Another that stands where this one does, and goes its own way."""
        other = copy(self)
        other._form = self._form and self._form.deep_copy()
        other._call = self._call and self._call.deep_copy()
        other._closing = self._closing.copy()
        return other

    def resume(self, other: "Guide") -> None:
        """Goes on where a copy of it stands, which is of no more use."""
        self.__dict__.update(other.__dict__)

    def advance(self, token: int) -> None:
        """Goes on behind a token."""
        self.taken += 1
        if self.place is Place.THOUGHT and token == self._doors.thought_end:
            # Behind its only thought a model may still call a tool.
            self._doors = replace(self._doors, thought=None)
            self.place = Place.BODY if self._doors.call is None else Place.START
        elif self.place is Place.CALL:
            if self._call is not None:
                self._consume(self._call, token)
            self._in_text ^= token == self._quote
            if token == self._doors.call_end:
                self.place = Place.CALLED
        elif token == self._doors.call is not None and self._may_call:
            self.place, self._in_text = Place.CALL, False
            if self._call is not None:
                self._call.reset()
        elif self.place is Place.START and token == self._doors.thought:
            self.place = Place.THOUGHT
        elif self.place in (Place.START, Place.BODY) and token not in self.ends:
            self.place = Place.BODY
            if self._form is not None:
                self._consume(self._form, token)
        if self._ends_free:
            self.limit = min(self.limit, self.taken - self._begun)

    @property
    def _may_call(self) -> bool:
        return self.place is not Place.BODY or self._form is None

    @property
    def _ends_free(self) -> bool:
        """Whether all tokens asked for are taken, and nothing is to be closed."""
        if self._most is None or self.taken < self._most or self._form is not None:
            return False
        if self.place is Place.CALL:
            return self._call is None
        return self.place is Place.CALLED or not self._needed

    def forced(self) -> list[int]:
        """The tokens that must follow, if the form leaves no choice; goes on behind
        them."""
        matcher = self._matcher
        if matcher is None or self.place is Place.START:
            return []
        tokens = matcher.compute_ff_tokens()
        for token in tokens:
            self.advance(token)
        return tokens

    def _consume(self, matcher: "LLMatcher", token: int) -> None:
        if not matcher.consume_token(token):
            reason, *_ = matcher.get_error().splitlines() or [""]
            raise ChatError(f"The answer cannot be held to its form: {reason}")

    def _mark_answer(self, marks: np.ndarray, matcher: "LLMatcher | None") -> None:
        """Where the answer begins, or is under way and no call."""
        if matcher is not None and not self._needed:
            self._mark_held(marks, matcher)
        elif not self._needed:
            marks[:] = True
            marks[self._not_free] = False
        begins = self.place is Place.START and not self.closes
        thought = self._doors.thought if begins else None
        call = (
            self._doors.call if begins or self._form is None or self._needed else None
        )
        marks[[door for door in (thought, call) if door is not None]] = True

    def _mark_held(self, marks: np.ndarray, matcher: "LLMatcher") -> None:
        from llguidance.numpy import fill_next_token_bitmask

        fill_next_token_bitmask(matcher, self._words)
        bits = np.unpackbits(self._words.view(np.uint8), bitorder="little")
        bits = bits[: self.rows].view(np.bool_)
        marks[: len(bits)] = bits
        if self.place is Place.CALL:
            marks[[*self.ends]] = False  # which llguidance takes where nothing fits
            if not marks.any():
                raise ChatError("The call cannot be held to its tool: nothing fits.")
        if self.closes:
            best, plain = closers(self._processor.tokenizer, self.ends, self.rows)
            fitting = best[marks[best]][:TRIED]
            if not len(fitting):
                raise ChatError("The answer cannot be held to its form: nothing fits.")
            shortest = int(fitting[0])
            if self._in_text and self._quote is not None and marks[self._quote]:
                shortest = self._quote
            elif self._in_text or plain[shortest]:
                # In turn, so that one is the one that is waited for.
                shortest = min(map(int, fitting), key=self._closing.__getitem__)
            marks[:] = False
            marks[shortest] = True
            self._closing[shortest] += 1
