"""The keyboard while an answer is shown: Ctrl-C, Ctrl-Z, and keys that wait.

What is typed meanwhile is not shown in the answer; the next prompt has it.
"""

import os
import signal
import sys
import termios
import time
from contextlib import suppress
from select import select
from types import FrameType
from typing import Any

from prompt_toolkit.input import Input
from prompt_toolkit.input.typeahead import store_typeahead
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding.key_processor import KeyPress

TWICE = 1.0  # seconds between two Ctrl-C that mean "leave"
IFLAG, LFLAG, CHARACTERS = 0, 3, 6  # of what termios gives
# A paste then stays one message, whatever lines it has.
BRACKETED_PASTE = "\x1b[?2004h", "\x1b[?2004l"


class SecondInterrupt(KeyboardInterrupt):
    """Ctrl-C twice in a row."""


class Keyboard:
    """The terminal's keys: held, they are neither shown nor made into lines.

    Where Ctrl-Z suspends the program meanwhile, the shell gets the terminal as it was,
    and not the keys.

    input: of the prompt, which has them later.
    """

    def __init__(self, input: Input) -> None:
        self._input = input
        self._number = input.fileno()
        self._before = termios.tcgetattr(self._number)
        self._typed = b""  # before Ctrl-Z
        self._resumed = False

    def hold(self) -> None:
        with suppress(termios.error):  # the terminal may be gone
            self._before = termios.tcgetattr(self._number)
        self._hold()
        self._handlers = {
            signal.SIGTSTP: self._suspend,
            signal.SIGCONT: self._go_on,
        }
        self._previous = {n: signal.getsignal(n) for n in self._handlers}
        for number, handler in self._handlers.items():
            if self._previous[number] is not signal.SIG_IGN:
                signal.signal(number, handler)

    def give_back(self, drop: bool = False) -> None:
        """drop: what was typed meanwhile is not meant for what comes next."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if drop:
            self._give_back(termios.TCSAFLUSH)
            return
        self._give_back(termios.TCSANOW)
        self._store()

    def set_aside(self) -> None:
        """What was typed until now waits for the next prompt, and is no answer to what
        is asked before."""
        self._hold()
        self._take()
        self._give_back(termios.TCSANOW)
        self._store()

    def resumed(self) -> bool:
        """Whether the program was suspended since this was asked last."""
        resumed, self._resumed = self._resumed, False
        return resumed

    def _take(self) -> None:
        with suppress(OSError):
            if select([self._number], [], [], 0)[0]:
                self._typed += os.read(self._number, 65536)

    def _store(self) -> None:
        keys: list[KeyPress] = []
        Vt100Parser(keys.append).feed_and_flush(self._typed.decode(errors="replace"))
        store_typeahead(self._input, keys)
        self._typed = b""

    def _hold(self) -> None:
        with suppress(OSError):
            if os.tcgetpgrp(self._number) != os.getpgrp():
                return  # it goes on in the background
        keys = [*self._before[:CHARACTERS], [*self._before[CHARACTERS]]]
        keys[LFLAG] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN)
        keys[LFLAG] |= termios.NOFLSH  # Ctrl-C stops an answer, and loses no key
        keys[IFLAG] &= ~termios.ICRNL
        keys[CHARACTERS][termios.VMIN], keys[CHARACTERS][termios.VTIME] = 1, 0
        self._set(keys, termios.TCSANOW, BRACKETED_PASTE[0])

    def _give_back(self, when: int) -> None:
        self._set(self._before, when, BRACKETED_PASTE[1])

    def _set(self, keys: list[Any], when: int, paste: str) -> None:
        with suppress(OSError, termios.error):
            termios.tcsetattr(self._number, when, keys)
            # Not through the stream: a signal may come while it is written to.
            os.write(sys.stdout.fileno(), paste.encode())

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        self._take()
        self._give_back(termios.TCSANOW)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        # It goes on from here; `_go_on` is called as well.
        signal.signal(signal.SIGTSTP, self._suspend)

    def _go_on(self, number: int, frame: FrameType | None) -> None:
        self._hold()
        self._resumed = True


class Interrupt:
    """While active, Ctrl-C stops one answer; `requested` says that it did.

    Reading a long prompt can take minutes, so until the answer begins it raises at
    once; the prefix cache notices that it was left half way. After that the flag is
    read between tokens. A second Ctrl-C within a second always raises; so does the
    first if it `always_leaves`.
    """

    def __init__(
        self, keyboard: Keyboard | None = None, always_leaves: bool = False
    ) -> None:
        self.requested = False
        self._keyboard = keyboard
        self.always_leaves = always_leaves
        self._begun = False
        self._at = float("-inf")

    def stopped(self) -> bool:
        """Asked after each piece of the answer: whether to go no further."""
        self._begun = True
        return self.requested

    def resumed(self) -> bool:
        """Asked before each piece: whether others may have used the terminal."""
        return self._keyboard is not None and self._keyboard.resumed()

    def set_aside(self) -> None:
        """Before a question: what was typed so far is no answer to it. The next prompt
        has it, where there is one with a keyboard."""
        if self._keyboard is not None:
            self._keyboard.set_aside()
            return
        with suppress(OSError, ValueError, termios.error):
            termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)

    def press(self) -> None:
        """Ctrl-C was pressed, while active or beside it."""
        self.requested, self._at = True, time.monotonic()

    def leaves(self) -> bool:
        """Whether Ctrl-C ends all: an answer was stopped less than a second ago."""
        return self.always_leaves or time.monotonic() - self._at < TWICE

    def __enter__(self) -> "Interrupt":
        self.requested = self._begun = False
        self._previous = signal.signal(signal.SIGINT, self._handle)
        if self._keyboard is not None:
            self._keyboard.hold()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if self._keyboard is not None:
            self._keyboard.give_back(drop=kind is SecondInterrupt)
        signal.signal(signal.SIGINT, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.leaves():
            raise SecondInterrupt
        self.press()
        if not self._begun:
            raise KeyboardInterrupt
