"""Several answers at once, in turns with the same one by one: how much faster it is.

    python benchmarks/batch.py [--model demo] [--bits 4] [--rows 2 4 8] [--runs 5]
    python benchmarks/batch.py --launches

The table goes to stdout, progress to stderr. Prompts have different lengths; it is the
processor's time that is compared. With --launches, what a GPU would be asked for one
token of each row is counted instead, in the graph of a step. See README.md here.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlx.core as mx
from drafts import folder_of
from graphs import in_graph, traced, working
from launches import MODELS, models_of
from pretended import pretended_metal
from programs import say
from shapes import FIRST_WORD

from mlx_gemma4 import Batch, Chunk, Gemma4, Processor, load, stream_generate
from mlx_gemma4.bench.rounds import ratios, spread, take_rounds
from mlx_gemma4.decoding.step import step_of, together_of
from mlx_gemma4.kernels import NAMES, using

ANSWERS = 8
NEVER = -1e4  # added to the logits of what ends an answer


@dataclass(frozen=True)
class Made:
    """ms: of the processor, per token."""

    ms: float
    tokens: list[list[int]]


def prompts(rows: int) -> list[list[int]]:
    """Of 10 to 200 tokens, in a vocabulary of so many rows."""
    draw = random.Random(0)
    lengths = [draw.randrange(10, 200) for _ in range(ANSWERS)]
    return [[2, *(draw.randrange(FIRST_WORD, rows) for _ in range(n))] for n in lengths]


def made(
    model: Gemma4, processor: Processor, most: int, rows: int, number: int
) -> Made:
    """All answers, so many at once. number: of the round, and the seed."""
    line = prompts(model.config.text_config.token_rows)
    bias = dict.fromkeys(processor.generation.stop_tokens, NEVER)
    batch: Batch[Chunk] = Batch(model, rows)
    started = time.process_time()
    every = []
    while line or batch:
        while line and not batch.full:
            stream = stream_generate(
                model,
                processor,
                tokens=line.pop(0),
                max_tokens=most,
                temperature=1.0,
                seed=number,
                logit_bias=bias,
                stop_loops=False,
                draft="off",
            )
            every.append(batch.add(stream))
        batch.step()
    tokens = [[chunk.token for chunk in row.items] for row in every]
    spent = time.process_time() - started
    return Made(1e3 * spent / sum(map(len, tokens)), tokens)


def measure(
    name: str, bits: int | None, rows: Sequence[int], most: int, runs: int
) -> list[str]:
    with tempfile.TemporaryDirectory() as work:
        model, processor = load(folder_of(name, bits, Path(work)))
        contenders: dict[str, Callable[[int], Made]] = {
            str(n): partial(made, model, processor, most, n) for n in (1, *rows)
        }
        found = take_rounds(
            contenders,
            range(runs + 1),
            lambda n, i: say(f"{name}: {n} rows, {f'round {i}' if i else 'warm-up'}"),
        )
    spent = {n: [each.ms for each in answers[1:]] for n, answers in found.items()}
    lines = [f"{name}, {bits or 32} bits: {ANSWERS} answers of {most} tokens"]
    for n, times in spent.items():
        gain = ratios(spent["1"], times).text("{:.2f}".format)
        lines.append(
            f"{n:>2} rows: {spread(times).text()} CPU ms a token, {gain} times"
        )
    same = all(
        [each.tokens for each in answers] == [each.tokens for each in found["1"]]
        for answers in found.values()
    )
    return lines if same else [*lines, "They do not say the same!"]


def launches(model: Gemma4, rows: int) -> int:
    """Of one token of each of so many rows, behind 40 others."""

    def read() -> int:
        caches = [model.make_cache() for _ in range(rows)]
        before = [model(mx.array([[5] * 40]), cache) for cache in caches]
        tokens = mx.array([[9]] * rows)
        if rows == 1:
            found = step_of(model)(tokens, caches[0])
        else:
            found = together_of(model)(tokens, caches)
        return working(in_graph([*before, found[0]]) - in_graph(before)).total()

    return traced(read)


def counted(rows: Sequence[int]) -> list[str]:
    lines = [f"launches of a step with {', '.join(map(str, (1, *rows)))} rows"]
    for name in MODELS:
        with pretended_metal():
            model, _ = models_of(name)
            for label, kernels in (("plain", ()), ("kernels", NAMES)):
                with using(*kernels):
                    counts = [launches(model, n) for n in (1, *rows)]
                told = " ".join(f"{count:6}" for count in counts)
                lines.append(f"{name:8} {label:8} {told}")
    return lines


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo", choices=["demo", "e2b-like"])
    parser.add_argument("--bits", type=int, choices=[4], help="convert it first")
    parser.add_argument("--rows", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--decode", type=int, default=60, metavar="N")
    parser.add_argument("--runs", type=int, default=5, metavar="N")
    parser.add_argument("--launches", action="store_true")
    asked = parser.parse_args()
    if asked.launches:
        print("\n".join(counted(asked.rows)))
        return
    found = measure(asked.model, asked.bits, asked.rows, asked.decode, asked.runs)
    print("\n".join(found))


if __name__ == "__main__":
    main()
