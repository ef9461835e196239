"""From figures of all rounds to medians, ratios and a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlx_gemma4.bench.rounds import Spread, ratios, spread


@dataclass(frozen=True)
class Row:
    """A figure of every program, and how many times better the first one's is than each
    other's: of two samples of the same round, as slow rounds are slow for both."""

    label: str
    values: dict[str, Spread]
    ratios: dict[str, Spread]


def row(label: str, values: Mapping[str, Sequence[float]], rate: bool = False) -> Row:
    """rate: more is better."""
    base, *others = values
    against = {
        name: ratios(values[base], values[name])
        if rate
        else ratios(values[name], values[base])
        for name in others
    }
    return Row(label, {name: spread(each) for name, each in values.items()}, against)


def table(rows: Sequence[Row]) -> str:
    """Aligned columns: the first program, then each other and the ratio to it."""
    base, *others = rows[0].values
    cells = [["", base, *(cell for name in others for cell in (name, "ratio"))]]
    for each in rows:
        line = [each.label, each.values[base].text()]
        for name in others:
            line += [each.values[name].text(), ratio_text(each.ratios[name])]
        cells.append(line)
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    padded = (zip(line, widths, strict=True) for line in cells)
    return "\n".join("  ".join(c.ljust(w) for c, w in line).rstrip() for line in padded)


def ratio_text(ratio: Spread) -> str:
    return ratio.text("{:.2f}".format)
