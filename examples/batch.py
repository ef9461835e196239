"""Answers every text file of a folder: notes.txt gives notes.answer.txt beside it.

    python examples/batch.py letters "Sum this letter up in two sentences." -m e4b

Run it again after a stop: what has its answer is not asked anew.
"""

import argparse
from pathlib import Path

from mlx_gemma4 import generate, load


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("folder", type=Path)
    parser.add_argument("task", nargs="?", default="", help="goes before each text")
    parser.add_argument("-m", "--model", default="demo")
    options = parser.parse_args()

    model, processor = load(options.model)
    for path in sorted(options.folder.glob("*.txt")):
        target = path.with_suffix(".answer.txt")
        if path.name.endswith(".answer.txt") or target.exists():
            continue
        text = f"{options.task}\n\n{path.read_text('utf-8')}".strip()
        answer = generate(model, processor, text, temperature=0, max_tokens=2000)
        target.write_text(answer.text + "\n", "utf-8")
        print(f"{path.name}: {answer.text}")


if __name__ == "__main__":
    main()
