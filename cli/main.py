"""The entry point of the command `gemma4`.

It imports the command itself only once errors are caught, so that Ctrl-C is quiet
from the first moment on.
"""

import io
import os
import signal
import sys


def main() -> None:
    """Runs one command and exits with its code."""
    try:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as under nohup
            signal.signal(signal.SIGINT, signal.default_int_handler)
        prepare_streams()
        from .app import run

        code = run(as_json="--json" in sys.argv)
    except KeyboardInterrupt:
        print("(stopped)", file=sys.stderr)
        code = 130
    sys.exit(code)


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
