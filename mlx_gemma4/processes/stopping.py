"""Ctrl-C while sums block: Python's own handlers wait for the main thread, which may
never come back from MLX.
"""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def heard_at_once(heard: Callable[[int], None]) -> Iterator[None]:
    """Tells `heard` of each signal that has a handler in Python, in a thread."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def listen() -> None:
        with ours:
            while numbers := ours.recv(16):
                for number in numbers:
                    heard(number)

    threading.Thread(target=listen, daemon=True, name="signals").start()
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        theirs.close()
