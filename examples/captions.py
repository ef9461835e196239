"""Writes a caption beside every picture of a folder: a.jpg gives a.txt.

    python examples/captions.py photos --question "One sentence, please." -m e4b

That is the form in which trainers of picture models take captions.
"""

import argparse
import sys
from pathlib import Path

from mlx_gemma4 import Chat, load
from mlx_gemma4.errors import MediaError

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".heic", ".gif", ".tif", ".tiff"}


def main() -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--question", default="Describe this image.")
    parser.add_argument("--tokens", type=int, help="the most a picture may take")
    parser.add_argument("-m", "--model", default="demo")
    options = parser.parse_args()

    model, processor = load(options.model)
    chat = Chat(model, processor, image_tokens=options.tokens, temperature=0)
    failed = 0
    for path in sorted(options.folder.iterdir()):
        if path.suffix.lower() not in PICTURES:
            continue
        chat.clear()  # each picture is a conversation of its own
        try:
            answer = chat.ask(options.question, images=path)
        except MediaError as error:  # damaged; the others go on
            print(f"{path.name}: {error}", file=sys.stderr)
            failed += 1
            continue
        path.with_suffix(".txt").write_text(answer.text + "\n", "utf-8")
        print(f"{path.name}: {answer.text}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
