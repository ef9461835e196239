"""Foreign code: where it prints, and what it reads."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress

STDIN, STDOUT, STDERR = 0, 1, 2


@contextmanager
def aside() -> Iterator[None]:
    """Around code that is not ours. What it and its programs print goes to stderr, so
    that stdout is the answer, and for them nothing is typed or piped in."""
    sys.stdout.flush()
    with ExitStack() as stack:
        nothing = stack.enter_context(open(os.devnull))
        stack.enter_context(_standing_in(STDIN, nothing.fileno()))
        stack.enter_context(_standing_in(STDOUT, STDERR))
        stack.enter_context(redirect_stdout(sys.stderr))
        before, sys.stdin = sys.stdin, nothing
        try:
            yield
        finally:
            sys.stdin = before


@contextmanager
def _standing_in(number: int, other: int) -> Iterator[None]:
    """The file `other` under `number`, for programs that are started."""
    kept = None
    with suppress(OSError):  # it may be closed
        kept = os.dup(number)
        os.dup2(other, number)
    try:
        yield
    finally:
        if kept is not None:
            os.dup2(kept, number)
            os.close(kept)
