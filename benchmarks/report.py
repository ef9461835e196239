"""From samples to medians, ratios and a table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from implementations import OURS
from measure import Round, Sample

from mlx_gemma4.bench.timing import Spread, spread


@dataclass(frozen=True)
class Metric:
    """A figure of a sample; `rate` says that more is better."""

    label: str
    of: Callable[[Sample, int], float]
    rate: bool = False


# The second argument is the length of the prompt.
METRICS = (
    Metric("prefill tok/s", lambda s, n: n / s.prefill.wall, rate=True),
    Metric("prefill tok/CPU s", lambda s, n: n / s.prefill.cpu, rate=True),
    Metric("decode tok/s", lambda s, n: (len(s.tokens) - 1) / s.decode.wall, True),
    Metric("decode tok/CPU s", lambda s, n: (len(s.tokens) - 1) / s.decode.cpu, True),
    Metric("first token s", lambda s, n: s.prefill.wall),
    Metric("start-up s", lambda s, n: s.start_up.wall),
    Metric("start-up CPU s", lambda s, n: s.start_up.cpu),
    Metric("first answer s", lambda s, n: s.start_up.wall + s.first.wall),
    Metric("first answer CPU s", lambda s, n: s.start_up.cpu + s.first.cpu),
    Metric("peak RSS MB", lambda s, n: s.rss_bytes / 1e6),
    Metric("peak MLX MB", lambda s, n: s.mlx_bytes / 1e6),
)


@dataclass(frozen=True)
class Row:
    """A metric of every program, and how many times better ours is than each other.

    A ratio compares two samples of the same round: slow rounds are slow for both.
    """

    label: str
    values: dict[str, Spread]
    ratios: dict[str, Spread]


def rows(rounds: Sequence[Round], prompt: int) -> list[Row]:
    names = sorted(rounds[0].samples, key=lambda name: (name != OURS, name))
    return [_row(metric, names, rounds, prompt) for metric in METRICS]


def _row(
    metric: Metric, names: Sequence[str], rounds: Sequence[Round], prompt: int
) -> Row:
    values = {n: [metric.of(r.samples[n], prompt) for r in rounds] for n in names}
    ratios = {
        name: [
            ours / theirs if metric.rate else theirs / ours
            for ours, theirs in zip(values[OURS], values[name], strict=True)
        ]
        for name in names
        if name != OURS
    }
    return Row(
        metric.label,
        {name: spread(v) for name, v in values.items()},
        {name: spread(v) for name, v in ratios.items()},
    )


def table(lines: Sequence[Row]) -> str:
    """Aligned columns: ours, then each other program and the ratio to it."""
    others = list(lines[0].ratios)
    cells = [["", OURS, *(c for name in others for c in (name, "ratio"))]]
    for line in lines:
        pairs = ((str(line.values[n]), ratio_text(line.ratios[n])) for n in others)
        cells.append(
            [line.label, str(line.values[OURS]), *(c for p in pairs for c in p)]
        )
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    padded = (zip(row, widths, strict=True) for row in cells)
    return "\n".join("  ".join(c.ljust(w) for c, w in row).rstrip() for row in padded)


def ratio_text(ratio: Spread) -> str:
    return f"{ratio.median:.2f} [{ratio.least:.2f}-{ratio.most:.2f}]"


def agreement(rounds: Sequence[Round]) -> list[str]:
    """One sentence per other program; the round that agrees least counts."""
    total = len(rounds[0].samples[OURS].tokens)
    sentences = []
    for name in sorted(rounds[0].agreement):
        worst = min((r.agreement[name] for r in rounds), key=lambda a: a.same)
        sentence = f"all {total} greedy tokens of {name} equal ours"
        if worst.gap is not None:
            sentence = (
                f"greedy tokens of {name} differ from ours at number {worst.same + 1} "
                f"of {total}, where two logits of ours are {worst.gap:.2g} apart"
            )
        sentences.append(sentence)
    return sentences
