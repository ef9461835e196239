"""Which token may come next in an answer of a form, and which must.

A form holds for the answer alone: a thought before it is free but for its end, and so
is a call of a declared tool in its place.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Literal, cast

import mlx.core as mx
import numpy as np

from ..chat.splitter import CALL, CALL_END, CHANNEL, CHANNEL_END
from ..errors import ChatError
from ..prompt.processor import Processor
from .closing import closers
from .form import Form, vocabulary_of

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

    rows: ids that the model has.
    inside_thought: the prompt has opened one.
    thinking, tools: whether a thought, or a call, may begin the answer.

    Raises ChatError for a form that llguidance cannot follow.
    """

    def __init__(
        self,
        form: Form,
        processor: Processor,
        rows: int,
        inside_thought: bool = False,
        thinking: bool = False,
        tools: bool = False,
    ) -> None:
        from llguidance.numpy import allocate_token_bitmask

        self.ends = tuple(processor.generation.stop_tokens)
        vocabulary = vocabulary_of(processor.tokenizer, self.ends, form.names_marks)
        self.rows, self.budget = rows, BUDGET
        self.cut = False  # the answer ends within what was forced
        self.taken = self.drawn = 0  # of its tokens, and those that were not forced
        self._matcher = form.matcher(vocabulary)
        self._closing: Counter[int] = Counter()  # taken as the short way to an end
        self._words = allocate_token_bitmask(1, vocabulary.vocab_size)
        self._processor = processor
        special = processor.tokenizer.special_tokens
        self._doors = Doors(
            special.get(CHANNEL) if thinking else None,
            special.get(CHANNEL_END),
            special.get(CALL) if tools else None,
            special.get(CALL_END),
        )
        # Where no tool is declared, a thought must not end in a call.
        calls = [special[CALL]] if CALL in special and not tools else []
        self._not_thought = [*self.ends, *calls]
        self.place = Place.THOUGHT if inside_thought else Place.START

    def allot(self, most: int | None, room: int) -> int:
        """How many tokens may be drawn in all, where `most` are asked for and `room` is
        left. From the budget on, they bring the answer to its end."""
        budget = BUDGET if most is None else most
        limit = min(budget + ROOM, room)
        self.budget = self.taken + max(1, min(budget, limit - ROOM))
        return limit

    def follow(self, begun: Sequence[int]) -> list[int]:
        """Goes on behind an answer that has begun; returns it with what must follow."""
        whole: list[int] = []
        while len(whole) < len(begun):
            token = begun[len(whole)]
            self.advance(token)
            whole.append(token)
            rest = list(begun[len(whole) :])
            if self.place is Place.BODY:
                # Text that was not ours may be cut into other tokens.
                forced = self._matcher.compute_ff_tokens()
                if all(a == b for a, b in zip(forced, rest, strict=False)):
                    whole += self.forced()
        return whole

    @property
    def is_valid(self) -> bool:
        """Whether the answer could end here, behind all that was forced."""
        if self.place in (Place.CALL, Place.CALLED):
            return self.place is Place.CALLED
        return self.place is not Place.THOUGHT and self._matcher.is_accepting()

    @property
    def closes(self) -> bool:
        """Whether the budget is spent."""
        return self.taken >= self.budget

    def reason(
        self, found: Literal["length", "stop"]
    ) -> Literal["length", "closed", "stop"]:
        """Why the answer ends, where it did for want of tokens or by a token."""
        if self.cut or not self.is_valid:
            return "length"
        return "closed" if self._closing or found == "length" else "stop"

    def allowed(self) -> mx.array | None:
        """The ids that may come next: bool [1, rows]; None for all of them."""
        if self.place is Place.CALL:
            return None
        marks = np.ones(self.rows, np.bool_)
        if self.place is Place.THOUGHT:
            marks[self._not_thought] = False
            if self.closes:
                marks[:] = False
                marks[self._doors.thought_end] = True
        elif self.place is Place.CALLED:
            more = [] if self.closes else [self._doors.call]
            marks[:] = False
            marks[[*self.ends, *more]] = True
        else:
            self._mark_body(marks)
        if self.closes:
            self._closing[int(marks.argmax())] += 1
        return mx.array(cast(Any, marks))[None]

    def advance(self, token: int) -> None:
        """Goes on behind a token that was drawn."""
        self.drawn += 1
        self._advance(token)

    def _advance(self, token: int) -> None:
        self.taken += 1
        if self.place is Place.THOUGHT:
            if token == self._doors.thought_end:
                # Behind its only thought a model may still call a tool.
                self._doors = replace(self._doors, thought=None)
                self.place = Place.BODY if self._doors.call is None else Place.START
            elif token == self._doors.call is not None:
                self.place = Place.CALL
        elif self.place is Place.CALL:
            if token == self._doors.call_end:
                self.place = Place.CALLED
        elif self.place is Place.CALLED:
            if token == self._doors.call:
                self.place = Place.CALL
        elif self.place is Place.START and token == self._doors.thought:
            self.place = Place.THOUGHT
        elif self.place is Place.START and token == self._doors.call:
            self.place = Place.CALL
        elif token not in self.ends:
            self.place = Place.BODY
            self._consume(token)

    def forced(self) -> list[int]:
        """The tokens that must follow, if the form leaves no choice; goes on behind
        them."""
        if self.place is not Place.BODY:
            return []
        tokens = self._matcher.compute_ff_tokens()
        for token in tokens:
            self._advance(token)
        return tokens

    def _consume(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            reason, *_ = self._matcher.get_error().splitlines() or [""]
            raise ChatError(f"The answer cannot be held to its form: {reason}")

    def _mark_body(self, marks: np.ndarray) -> None:
        from llguidance.numpy import fill_next_token_bitmask

        fill_next_token_bitmask(self._matcher, self._words)
        bits = np.unpackbits(self._words.view(np.uint8), bitorder="little")
        bits = bits[: self.rows].view(np.bool_)
        marks[:] = False
        marks[: len(bits)] = bits
        if self.closes:
            best, plain = closers(self._processor.tokenizer, self.ends, self.rows)
            fitting = best[marks[best]][:TRIED]
            if not len(fitting):
                raise ChatError("The answer cannot be held to its form: nothing fits.")
            shortest = fitting[0]
            if plain[shortest]:  # in turn, so that one is the one that is waited for
                shortest = min(fitting, key=lambda token: self._closing[int(token)])
            marks[:] = False
            marks[shortest] = True
        elif self.place is Place.START:
            doors = (self._doors.thought, self._doors.call)
            marks[[door for door in doors if door is not None]] = True
