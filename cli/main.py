"""The entry point of the command `gemma4`.

It imports the command itself only once errors are caught, so that Ctrl-C is quiet
from the first moment on.
"""

import _thread
import io
import os
import signal
import sys
import threading


def main() -> None:
    """Runs one command and exits with its code."""
    try:
        prepare_streams()
        from .app import run  # parts of it turn Ctrl-C into errors of their own

        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as under nohup
            signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook = interrupt_again
        code = run(as_json="--json" in sys.argv)
    except KeyboardInterrupt:
        print("(stopped)", file=sys.stderr)
        code = 130
    sys.exit(code)


def interrupt_again(lost: "sys.UnraisableHookArgs") -> None:
    """Where Ctrl-C comes within a callback, Python drops it: it comes again."""
    if isinstance(lost.exc_value, KeyboardInterrupt):
        threading.Timer(0.01, _thread.interrupt_main).start()  # not in here
    else:
        sys.__unraisablehook__(lost)


def prepare_streams() -> None:
    """Opens what was closed by who started us, and lets no character fail."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    main()
