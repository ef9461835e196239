"""What `gemma4 bench` found, as a table and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import mlx.core as mx

from mlx_gemma4 import __version__
from mlx_gemma4.bench.rounds import FEWEST, Spread, compared, ratios, spread
from mlx_gemma4.bench.timing import OURS, Series
from mlx_gemma4.bench.traffic import (
    Bandwidth,
    decode_bytes,
    measure_bandwidth,
    model_dtype,
    weight_bytes,
)
from mlx_gemma4.model import Gemma4
from mlx_gemma4.reading.sizes import size

from ..tables import columns

HEAD = ("", "prefill tok/s", "first token s", "decode tok/s", "bandwidth", "peak")


@dataclass
class Facts:
    """What was measured, and what it is measured against. Bytes, and bytes a second.

    token_bytes: by context, the mean of what each decoded token reads.
    apart: names that were not measured in turns with the others.
    """

    model: str
    device: str
    dtype: str
    token_rows: int
    contexts: list[int]
    decode: int
    runs: int
    weights: int
    token_bytes: dict[int, float]
    bandwidth: Bandwidth
    versions: dict[str, str]
    kv_bits: int | None = None
    apart: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        name: str,
        model: Gemma4,
        contexts: list[int],
        decode: int,
        runs: int,
        kv_bits: int | None = None,
    ) -> "Facts":
        return cls(
            name,
            str(mx.device_info().get("device_name", "CPU")),
            str(model_dtype(model)).removeprefix("mlx.core."),
            model.config.text_config.token_rows,
            contexts,
            decode,
            runs,
            weight_bytes(model),
            {n: decode_bytes(model, n, decode, kv_bits) for n in contexts},
            measure_bandwidth(),
            {OURS: __version__, "mlx": version("mlx")},
            kv_bits,
        )

    def share(self, series: Series) -> float:
        """Of the bandwidth that decoding uses."""
        rate = spread(series.decode_rates).median
        return rate * self.token_bytes[series.context] / self.bandwidth.most


def packed(kv_bits: int | None) -> str:
    """How contexts are kept, if not as they are computed."""
    return f" with an {kv_bits}-bit context" if kv_bits else ""


def lines(facts: Facts, found: Mapping[int, Sequence[Series]]) -> list[str]:
    """The table, a block for each context."""
    versions = ", ".join(f"{name} {number}" for name, number in facts.versions.items())
    text = [
        f"{facts.model} in {facts.dtype}{packed(facts.kv_bits)} on {facts.device}; "
        f"{versions}",
        f"memory: {size(facts.bandwidth.read)}/s read, "
        f"{size(facts.bandwidth.copy)}/s copied; bandwidth is the share of "
        "the larger",
        f"a token reads {size(facts.weights)} of weights; {facts.decode} tokens "
        f"decoded, {facts.runs} {'round' if facts.runs == 1 else 'rounds'} after a "
        "warm-up: median [least-most]",
    ]
    for context, series in found.items():
        text += ["", *_block(facts, context, series)]
    if facts.apart:
        text += ["", f"Measured afterwards, not in turns: {', '.join(facts.apart)}."]
    return text


def _block(facts: Facts, context: int, found: Sequence[Series]) -> list[str]:
    base, *others = found
    need = facts.token_bytes[context]
    title = (
        f"context {context:,}: a token reads {size(need)} with its keys "
        f"and values, so at most {facts.bandwidth.most / need:,.0f} tok/s"
    )
    head = (*HEAD, f"decode / {base.name}") if others else HEAD
    rows = [head, *(_row(facts, each, base, bool(others)) for each in found)]
    return [title, *columns(rows, left=range(len(head)))]


def _row(facts: Facts, series: Series, base: Series, compared: bool) -> tuple[str, ...]:
    first = spread([each.first_token for each in series.samples])
    cells = (
        series.name,
        shown(spread(series.prefill_rates)),
        shown(first),
        shown(spread(series.decode_rates)),
        f"{facts.share(series):.0%}",
        size(series.peak),
    )
    if not compared:
        return cells
    return (*cells, "" if series is base else _against(series, base))


def _against(series: Series, base: Series) -> str:
    """`1.10 [1.08-1.13] faster`, `1.01 [0.97-1.04] ranges overlap`."""
    rates = series.decode_rates, base.decode_rates
    return f"{shown(ratios(*rates))} {verdict(*rates)}"


def verdict(rates: Sequence[float], base: Sequence[float]) -> str:
    """Which are faster, or why that is not said."""
    word = compared(rates, base)
    if word != "unclear":
        return word
    few = min(len(rates), len(base)) < FEWEST
    return "too few rounds" if few else "ranges overlap"


def shown(value: Spread) -> str:
    """`229 [179-533]`."""
    return value.text(figure)


def figure(value: float) -> str:
    """Three digits, more of large and fewer of tiny values; no powers of ten."""
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def as_json(facts: Facts, found: Mapping[int, Sequence[Series]]) -> dict[str, Any]:
    """Everything measured; `runs` are in the order in which they were taken."""
    return {
        "model": facts.model,
        "device": facts.device,
        "dtype": facts.dtype,
        "versions": facts.versions,
        "kv_bits": facts.kv_bits,
        "decoded": facts.decode,
        "rounds": facts.runs,
        "bandwidth": asdict(facts.bandwidth),
        "weight_bytes_per_token": facts.weights,
        "not_in_turns": facts.apart,
        "contexts": [
            {
                "context": context,
                "bytes_per_token": facts.token_bytes[context],
                "most_decode_tps": facts.bandwidth.most / facts.token_bytes[context],
                "results": [_result(facts, each, series[0]) for each in series],
            }
            for context, series in found.items()
        ],
    }


def _result(facts: Facts, series: Series, base: Series) -> dict[str, Any]:
    result = {
        "name": series.name,
        "prefill_tps": asdict(spread(series.prefill_rates)),
        "first_token_s": asdict(spread([s.first_token for s in series.samples])),
        "decode_tps": asdict(spread(series.decode_rates)),
        "bandwidth_share": facts.share(series),
        "peak_bytes": series.peak,
        "warm_up": asdict(series.warm_up),
        "runs": [asdict(each) for each in series.samples],
    }
    if series is not base:
        result |= {
            "against": base.name,
            "decode_ratio": asdict(ratios(series.decode_rates, base.decode_rates)),
            "verdict": compared(series.decode_rates, base.decode_rates),
        }
    return result
