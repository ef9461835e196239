"""A small chat, to build your own on.

    python examples/chat_loop.py -m e4b --system "You are a patient teacher."

Ctrl-C stops an answer, Ctrl-D leaves. A line that names a picture goes
with the next question.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from mlx_gemma4 import Chat, load


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("-m", "--model", default="demo")
    parser.add_argument("--system")
    options = parser.parse_args()

    chat = Chat(*load(options.model), system=options.system)
    picture = None
    for line in lines():
        if line.endswith((".png", ".jpg")) and Path(line).is_file():
            picture = line  # goes with the next question
            continue
        try:
            for chunk in chat.stream(line, images=picture):
                print(chunk.text, end="", flush=True)
        except KeyboardInterrupt:  # what was said is kept
            print(" (stopped)", end="")
        except ValueError as error:  # nothing was answered, and nothing is kept
            print(error, end="")
        print()
        picture = None


def lines() -> Iterator[str]:
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if line:
            yield line


if __name__ == "__main__":
    main()
