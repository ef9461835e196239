"""Attention in bands beside one call with the whole mask: score work and time.

    python benchmarks/banded.py             # a chunk of 2,048 tokens, some minutes
    python benchmarks/banded.py --count     # score work alone, no time: seconds
    python benchmarks/banded.py --json

One sliding layer's attention in float32, with the heads and windows of the published
models, behind nothing and behind a cache. Both get the same queries, keys and values,
in turns; the first call of each is not counted. All masks are made before the clock
starts, as a model makes them once for all of its layers. See README.md here.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from unittest import mock

import mlx.core as mx
from report import row, table

from mlx_gemma4.bench.child import Spent, Stopwatch
from mlx_gemma4.bench.rounds import take_rounds
from mlx_gemma4.cache import Seen
from mlx_gemma4.text.masks import (
    Band,
    Mask,
    picture_mask,
    vision_blocks,
    vision_window_mask,
)
from mlx_gemma4.text.scores import attend

HEAD_DIM = 256
PICTURE, TEXT = 280, 200  # positions of a picture, and of the text before each
BANDED, MASKED = "banded", "masked"


@dataclass(frozen=True)
class Case:
    """A chunk: of which model's heads, behind how many tokens, and with what in it."""

    name: str
    heads: int
    kv_heads: int
    window: int
    earlier: int
    pictures: bool = False

    @property
    def label(self) -> str:
        what = "pictures" if self.pictures else "text"
        return f"{self.name}, window {self.window}, {what} behind {self.earlier}"

    def keys(self, chunk: int) -> int:
        """As many as the cache of a sliding layer hands out."""
        return min(self.earlier, self.window - 1) + chunk

    def blocks(self, chunk: int) -> mx.array:
        """Numbers of pictures [1, chunk], one after each `TEXT` positions of text."""
        at = mx.arange(chunk)[None] % (TEXT + PICTURE)
        return vision_blocks((at >= TEXT) & self.pictures)


CASES = [
    *(Case("E2B", 8, 1, 512, earlier) for earlier in (0, 4096)),
    *(
        Case("26B-A4B", 16, 8, 1024, earlier, pictures)
        for pictures in (False, True)
        for earlier in (0, 4096)
    ),
]


def masks_of(case: Case, chunk: int) -> dict[str, Mask]:
    blocks, keys = case.blocks(chunk), case.keys(chunk)
    whole = vision_window_mask(blocks, keys, case.window)
    return {BANDED: picture_mask(blocks, keys, case.window), MASKED: whole}


def arrays(case: Case, chunk: int) -> list[mx.array]:
    """Queries, keys and values; not evaluated."""
    shapes = [(case.heads, chunk), *[(case.kv_heads, case.keys(chunk))] * 2]
    return [mx.random.normal((1, *shape, HEAD_DIM)) for shape in shapes]


def scores(case: Case, chunk: int, mask: Mask) -> int:
    """How many scores of a head are computed: counted in the calls, none of which is
    evaluated."""
    found = 0

    def note(queries: mx.array, keys: mx.array, values: mx.array, **_: Any) -> mx.array:
        nonlocal found
        found += queries.size // queries.shape[3] * keys.shape[2] // case.heads
        return queries

    with mock.patch.object(mx.fast, "scaled_dot_product_attention", note):
        attend(*_inputs(arrays(case, chunk), mask), mask)
    return found


def timed(
    case: Case, chunk: int, masks: dict[str, Mask], runs: int
) -> tuple[dict[str, list[Spent]], float]:
    """What every call cost, and how far the results lie apart."""
    inputs = arrays(case, chunk)
    mx.eval(inputs, masks[MASKED])
    results: dict[str, mx.array] = {}

    def call(name: str) -> Callable[[int], Spent]:
        def run(number: int) -> Spent:
            watch = Stopwatch()
            results[name] = attend(*_inputs(inputs, masks[name]), masks[name])
            mx.eval(results[name])
            return watch.read()

        return run

    spent = take_rounds({name: call(name) for name in masks}, range(runs + 1))
    apart = mx.abs(results[BANDED] - results[MASKED]).max()
    return {name: each[1:] for name, each in spent.items()}, float(apart)


def _inputs(arrays: list[mx.array], mask: Mask) -> tuple[mx.array, Seen]:
    queries = arrays[0]
    if isinstance(mask, Band):
        _, H, L, D = queries.shape
        rows = queries.swapaxes(1, 2).reshape(1, L, H * D)
        queries = mask.cut(rows, H, D).swapaxes(1, 2)
    return queries, Seen.all_of(arrays[1:])


def measure(case: Case, chunk: int, runs: int) -> dict[str, Any]:
    masks = masks_of(case, chunk)
    found: dict[str, Any] = {
        "case": case.label,
        **asdict(case),
        "chunk": chunk,
        "scores": {name: scores(case, chunk, mask) for name, mask in masks.items()},
    }
    if runs:
        found["seconds"], found["apart"] = timed(case, chunk, masks, runs)
    return found


def lines(found: Mapping[str, Any]) -> list[str]:
    """Ratios are of banded calls to masked ones."""
    counted = found["scores"]
    share = counted[BANDED] / counted[MASKED]
    text = [
        found["case"],
        f"  scores of a head  banded {counted[BANDED]:,}, masked {counted[MASKED]:,}: "
        f"{share:.2f} of them",
    ]
    if "seconds" not in found:
        return text
    spent = {name: found["seconds"][name] for name in (MASKED, BANDED)}
    rows = [
        row("  s", {n: [each.wall for each in took] for n, took in spent.items()}),
        row("  CPU s", {n: [each.cpu for each in took] for n, took in spent.items()}),
    ]
    return [*text, table(rows), f"  results at most {found['apart']:.1g} apart"]


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunk", type=int, default=2048, help="tokens read at once")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--count", action="store_true", help="score work alone")
    parser.add_argument("--json", action="store_true", help="every run")
    options = parser.parse_args()
    mx.random.seed(0)
    found = []
    for case in CASES:
        found.append(measure(case, options.chunk, 0 if options.count else options.runs))
        if not options.json:
            print("\n".join(lines(found[-1])), flush=True)
    if options.json:
        print(json.dumps(found, indent=1, default=vars))


if __name__ == "__main__":
    main()
