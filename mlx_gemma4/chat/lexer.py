"""Finds whole marks in text that comes in chunks, wherever the chunks are cut."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator


class Lexer:
    """Cuts chunks into (text, False) and (mark, True): leftmost, then longest.

    Holds back no more than may begin a mark. Thousands of marks cost no more than few.
    """

    def __init__(self, marks: Iterable[str]):
        self._marks = sorted(set(marks))
        self._set = frozenset(self._marks)
        self._lengths = sorted({len(mark) for mark in self._marks}, reverse=True)
        first = "".join({re.escape(mark[0]) for mark in self._marks})
        self._first = re.compile(f"[{first}]" if first else "(?!)")
        self._held = ""

    def feed(self, chunk: str) -> Iterator[tuple[str, bool]]:
        return self._cut(self._held + chunk, final=False)

    def finish(self) -> Iterator[tuple[str, bool]]:
        return self._cut(self._held, final=True)

    def _cut(self, text: str, final: bool) -> Iterator[tuple[str, bool]]:
        start = at = 0
        self._held = ""
        while match := self._first.search(text, at):
            at = match.start()
            if not final and self._may_begin(text[at : at + self._lengths[0]]):
                break
            if mark := self._mark_at(text, at):
                if at > start:
                    yield text[start:at], False
                yield mark, True
                start = at = at + len(mark)
            else:
                at += 1
        else:
            at = len(text)
        self._held = text[at:]
        if at > start:
            yield text[start:at], False

    def _may_begin(self, rest: str) -> bool:
        """Whether `rest` is the beginning of a longer mark."""
        i = bisect_left(self._marks, rest)
        i += i < len(self._marks) and self._marks[i] == rest
        return i < len(self._marks) and self._marks[i].startswith(rest)

    def _mark_at(self, text: str, at: int) -> str | None:
        candidates = (text[at : at + length] for length in self._lengths)
        return next((mark for mark in candidates if mark in self._set), None)
