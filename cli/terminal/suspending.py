"""Ctrl-Z while one answer is shown: others use the terminal until it goes on."""

import signal
from types import FrameType


class Suspending:
    """While active, `resumed` says whether the program was suspended since it was asked
    last."""

    def __init__(self) -> None:
        self._resumed = False

    def resumed(self) -> bool:
        resumed, self._resumed = self._resumed, False
        return resumed

    def __enter__(self) -> "Suspending":
        self._before = signal.signal(signal.SIGCONT, self._go_on)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGCONT, self._before)

    def _go_on(self, number: int, frame: FrameType | None) -> None:
        self._resumed = True
