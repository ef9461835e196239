"""How long a tokenizer.json takes to load, and how long to encode a text with it.

    python benchmarks/tokenizer.py FOLDER [ROUNDS]

In turns, in one process: this project's tokenizer, and the `tokenizers` package alone,
which is most of it. Milliseconds by the clock and of the processor: the median, with
the least and the most of all rounds behind the first.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from mlx_gemma4.bench.child import Spent, Stopwatch
from mlx_gemma4.bench.rounds import spread, take_rounds
from mlx_gemma4.chat.tokenizer import Tokenizer

TEXT = "The quick brown fox jumps over the lazy dog. 한국어 漢字 🙂\n" * 2000


def timed(work: Callable[[], object]) -> Callable[[int], Spent]:
    def run(number: int) -> Spent:
        watch = Stopwatch()
        work()
        return watch.read()

    return run


def main(folder: Path, rounds: int = 5) -> None:
    from tokenizers import Tokenizer as Backend

    file, loaded = folder / "tokenizer.json", Tokenizer(folder)
    rows = len(loaded.tokens_from(0))
    contenders = {
        "load": timed(lambda: Tokenizer(folder)),
        "load, tokenizers alone": timed(lambda: Backend.from_file(str(file))),
        f"compare ids with {rows:,} rows": timed(lambda: loaded.tokens_from(rows)),
        f"encode {len(TEXT):,} characters": timed(lambda: loaded.encode(TEXT)),
    }
    found = take_rounds(contenders, range(rounds + 1), lambda name, number: None, None)
    for name, (_, *spent) in found.items():
        wall, cpu = (
            spread([1000 * getattr(each, clock) for each in spent])
            for clock in ("wall", "cpu")
        )
        print(f"{name:32} {wall.text()} ms, {cpu.text()} ms of the processor")


if __name__ == "__main__":
    folder, *rounds = sys.argv[1:]
    main(Path(folder), *map(int, rounds))
