"""Answers every text file of a folder: notes.txt gives notes.answer.txt beside it.

    python examples/batch.py letters "Sum this letter up in two sentences." -m e4b

Run it again after a stop: what has its answer is not asked anew.
"""

import argparse
from pathlib import Path

from mlx_gemma4 import generate_batch, load

AT_ONCE = 8  # texts; what was stopped is asked anew


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("folder", type=Path)
    parser.add_argument("task", nargs="?", default="", help="goes before each text")
    parser.add_argument("-m", "--model", default="demo")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"there is no folder {options.folder}")

    model, processor = load(options.model)
    texts = sorted(options.folder.glob("*.txt"))
    left = [p for p in texts if not p.name.endswith(".answer.txt")]
    left = [p for p in left if not p.with_suffix(".answer.txt").exists()]
    for paths in (left[i : i + AT_ONCE] for i in range(0, len(left), AT_ONCE)):
        asked = [f"{options.task}\n\n{p.read_text('utf-8')}".strip() for p in paths]
        answers = generate_batch(
            model, processor, asked, temperature=0, max_tokens=2000
        )
        for path, answer in zip(paths, answers, strict=True):
            path.with_suffix(".answer.txt").write_text(answer.text + "\n", "utf-8")
            print(f"{path.name}: {answer.text}")


if __name__ == "__main__":
    main()
