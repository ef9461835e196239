"""Separates what a model writes into thought, tool calls and answer, as it streams.

Special tokens arrive as their strings, cut anywhere. The text goes through two layers:
`Lexer` finds whole marks and holds back only what may begin one; `Splitter` follows
the channel and the calls. Where a model breaks the format:

- a call that opens inside a thought ends the thought;
- `call:name{…}` right where an answer would begin is a call if a closing mark follows,
  or if a thought was closed just before it and nothing comes after it;
- a call that is cut off, or that cannot be read, is given as it stands, so that nothing
  vanishes; one that only lacks its closing mark is a call;
- text of a channel other than "thought" is a thought that starts with the name;
- "thought" and a closing mark, where an answer would begin, are an empty thought.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import ChatError
from .calls import QUOTE
from .lexer import Lexer
from .tools import parse_call

CHANNEL, CHANNEL_END = "<|channel>", "<channel|>"
TURNS = "<|turn>", "<turn|>"
CALL, CALL_END, RESPONSE = "<|tool_call>", "<tool_call|>", "<|tool_response>"
MARKERS = frozenset(
    {
        *("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<|think|>", QUOTE),
        *(*TURNS, CHANNEL, CHANNEL_END),
        *("<|tool>", "<tool|>", CALL, CALL_END, RESPONSE, "<tool_response|>"),
        *("<|image>", "<|image|>", "<image|>", "<|video|>"),
        *("<|audio>", "<|audio|>", "<audio|>"),
    }
)
HEADER = "thought\n"
BARE_CALL = re.compile(r"call:[^\s{}]{1,128}\{")
BARE_CALL_BEGIN = re.compile(r"c|ca|cal|call|call:[^\s{}]{0,128}")


Kind = Literal["answer", "thought", "tool_call", "malformed_call"]


@dataclass(frozen=True)
class Fragment:
    """A stretch of output. A "tool_call" is what `parse_call` can read, one or more; a
    "malformed_call" is what it cannot, without the marks around it."""

    kind: Kind
    text: str


def opens_thought(prompt: Sequence[int], special_tokens: Mapping[str, int]) -> bool:
    """Whether a prompt's ids end inside a thought, which the model will go on with."""
    marks = [special_tokens.get(mark) for mark in (CHANNEL, CHANNEL_END, *TURNS)]
    last = next((token for token in reversed(prompt) if token in marks), None)
    return last is not None and last == marks[0]


class StopStrings:
    """Ends a text at the earliest of some strings, which is not part of it.

    Holds back no more than may begin a stop string.
    """

    def __init__(self, stops: Iterable[str]):
        stops = list(stops)
        if any(not isinstance(stop, str) or not stop for stop in stops):
            raise ChatError("A stop string must be a text of at least one character.")
        self._lexer = Lexer(stops)
        self.hit = False
        self.met: str | None = None  # which of them

    def feed(self, text: str) -> tuple[str, bool]:
        """The text that is safe to show, and whether a stop string has been met."""
        return self._until_stop(self._lexer.feed(text)), self.hit

    def finish(self) -> str:
        """The text held back at the end."""
        return self._until_stop(self._lexer.finish())

    def _until_stop(self, lexemes: Iterator[tuple[str, bool]]) -> str:
        shown = ""
        for text, is_stop in lexemes:
            if is_stop and not self.hit:
                self.hit, self.met = True, text
            if not self.hit:
                shown += text
        return shown


class _Call:
    """A call being collected: follows strings and braces."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, bool]] = []
        self.in_string = False
        self.depth = 0
        self.balanced = False  # the braces have been opened and closed again
        self.spoiled = False  # something follows the closing brace

    @property
    def complete(self) -> bool:
        return self.balanced and not self.spoiled

    @property
    def closed(self) -> bool:
        """Whether it ends as a call does; a name alone may be half of one."""
        return self.text.rstrip()[-1:] in ("}", ")", "]")

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.parts)

    @property
    def text_without_marks(self) -> str:
        return "".join(text for text, is_mark in self.parts if not is_mark)

    @property
    def text_with_quotes(self) -> str:
        """As it was written, less the marks that have no place in a call."""
        return "".join(
            text for text, is_mark in self.parts if not is_mark or text == QUOTE
        )

    def well_formed(self) -> bool:
        try:
            parse_call(self.text)
        except ChatError:
            return False
        return True

    def add(self, text: str, is_mark: bool) -> None:
        self.parts.append((text, is_mark))
        if text == QUOTE and is_mark:
            self.in_string = not self.in_string
            self.spoiled |= self.balanced
        elif not self.in_string:
            for character in text:
                self._follow(character)

    def _follow(self, character: str) -> None:
        self.spoiled |= self.balanced and not character.isspace()
        self.depth += (character == "{") - (character == "}")
        self.balanced |= character == "}" and self.depth == 0


class Splitter:
    """Feed it text as it comes; it returns fragments as soon as they are certain.

    `inside_thought`: the prompt has opened a thought (see `opens_thought`).
    `special_tokens`: strings that never reach an answer or a thought, beyond Gemma 4's
    own. Within the strings of a call everything is kept.
    """

    def __init__(
        self, inside_thought: bool = False, special_tokens: Iterable[str] = ()
    ):
        self._lexer = Lexer({*MARKERS, *special_tokens})
        # start: nothing of the answer yet; header: a channel's name may follow
        self._mode: Literal["start", "answer", "header", "thought", "call", "bare"]
        self._mode = "thought" if inside_thought else "start"
        self._held = ""
        self._call = _Call()
        self._after_thought = False
        self._fragments: list[Fragment] = []

    @property
    def inside_thought(self) -> bool:
        return self._mode in ("header", "thought")

    @property
    def inside_answer(self) -> bool:
        return self._mode in ("start", "answer")

    def feed(self, text: str) -> list[Fragment]:
        """Take a chunk and return what is certain now."""
        return self._take(self._lexer.feed(text))

    def finish(self) -> list[Fragment]:
        """What was held back. An unclosed thought or call ends here."""
        fragments = self._take(self._lexer.finish())
        if self._mode in ("call", "bare"):
            explicit = self._mode == "call"
            self._end_call(explicit or self._after_thought, self._call.closed)
        elif self._mode in ("header", "thought"):
            self._emit("thought", "" if self._held == HEADER[:-1] else self._held)
        else:
            self._emit("answer", self._held)
        self._held = ""
        return fragments + self._take(iter(()))

    def _take(self, lexemes: Iterator[tuple[str, bool]]) -> list[Fragment]:
        for text, is_mark in lexemes:
            if is_mark:
                self._mark(text)
            elif self._mode in ("call", "bare"):
                self._call.add(text, is_mark=False)
                self._check_bare()
            elif self._mode in ("header", "thought"):
                self._thought_text(self._held + text)
            else:
                self._answer_text(self._held + text)
        fragments, self._fragments = self._fragments, []
        return fragments

    def _emit(self, kind: Kind, text: str) -> None:
        if not text:
            return
        last = self._fragments[-1] if self._fragments else None
        if last and last.kind == kind and kind in ("answer", "thought"):
            self._fragments[-1] = Fragment(kind, last.text + text)
        else:
            self._fragments.append(Fragment(kind, text))

    def _answer_text(self, text: str) -> None:
        self._held = ""
        if self._mode == "start":
            begin = text.lstrip()
            self._emit("answer", text[: len(text) - len(begin)])
            if HEADER.startswith(begin) or BARE_CALL_BEGIN.fullmatch(begin):
                self._held = begin
                return
            text = begin
            if BARE_CALL.match(text):
                self._mode, self._call = "bare", _Call()
                self._call.add(text, is_mark=False)
                self._check_bare()
                return
            self._mode = "answer"
        self._emit("answer", text)

    def _thought_text(self, text: str) -> None:
        if self._mode == "header":
            if HEADER.startswith(text) and text != HEADER:
                self._held = text
                return
            self._mode, text = "thought", text.removeprefix(HEADER)
        # The newline before the closing mark belongs to the mark.
        self._held = "\n" if text.endswith("\n") else ""
        self._emit("thought", text.removesuffix("\n"))

    def _mark(self, mark: str) -> None:
        if self._mode in ("call", "bare"):
            self._mark_in_call(mark)
            return
        thinking = self._mode in ("header", "thought")
        if mark == CHANNEL_END:
            # The name alone, or the last newline; without an opening mark as well.
            closing = ("\n", HEADER[:-1]) if thinking else (HEADER[:-1], HEADER)
            held, self._held = self._held, ""
            if held not in closing:
                self._emit("thought" if thinking else "answer", held)
            self._mode, self._after_thought = "start", True
        elif mark in (CHANNEL, CALL):
            self._emit("thought" if thinking else "answer", self._held)
            self._held, self._call = "", _Call()
            self._mode = "header" if mark == CHANNEL else "call"
        elif self._mode == "start" and self._held:
            self._emit("answer", self._held)
            self._held, self._mode = "", "answer"

    def _mark_in_call(self, mark: str) -> None:
        explicit = self._mode == "call"
        quoted = self._call.in_string and not (
            mark == CALL_END and self._call.well_formed()
        )
        if mark == QUOTE or quoted:
            self._call.add(mark, is_mark=True)
            self._check_bare()
        elif mark == CALL_END:
            self._end_call(accepted=True)
        elif self._call.complete or mark == CALL or not explicit:
            self._end_call(explicit or mark == RESPONSE or self._after_thought)
            self._mark(mark)

    def _end_call(self, accepted: bool, closed: bool = True) -> None:
        if accepted and closed and self._call.well_formed():
            self._emit("tool_call", self._call.text)
            self._mode, self._after_thought = "start", False
        elif accepted:
            self._emit("malformed_call", self._call.text_with_quotes)
            self._mode, self._after_thought = "start", False
        else:
            self._emit("answer", self._call.text_without_marks)
            self._mode = "answer"

    def _check_bare(self) -> None:
        if self._mode == "bare" and self._call.spoiled:
            self._end_call(accepted=False)
