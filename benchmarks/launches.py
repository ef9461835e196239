"""What a GPU and its host are asked for one decoded token, counted without a GPU.

    python benchmarks/launches.py [--models E2B] [--context 512] [--json]

Launches are counted in the graph of a forward pass, with the real models' layers at
small widths, for this project (plain, and with its kernels) and for mlx-lm. Bytes are
those of the weights and of the keys and values that a token reads, at the real widths,
which are never allocated. Host time is the processor's for building the graph of one
decoding step. Of a prompt, all primitives in the graph of its second chunk are counted.

Counted as one launch: every primitive that does something, what `mx.compile` has fused
into one, and each of MLX's fused operations (norm, rotation, attention). Where MLX has
no fused attention for one query, on heads of 512 elements, what it makes of it counts.
Not counted: views, and the second launch that MLX's attention takes on some GPUs. What
comes behind the logits is counted by itself: drawing a token with Gemma's settings,
where sorting many numbers is launches too.
"""

import argparse
import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import mlx.core as mx
import mlx.nn as nn
from graphs import in_graph, traced, working
from mlx.utils import tree_map
from pretended import WIDE, pretended_metal
from shapes import published

if TYPE_CHECKING:
    from mlx_gemma4.model import Gemma4

MODELS = ("E2B", "E4B", "12B", "26B-A4B", "31B")
# GB/s, as published: M2 and M3; M4 Pro; M1 to M3 Max; M4 Max; M3 Ultra.
BANDWIDTHS = (100, 273, 400, 546, 819)
GROUP_SIZE, BITS = 64, 4
CHUNK = 1024  # tokens of a prompt read at once
VOCABULARY = 262144
PLAIN, ALL, MLX_LM = "plain", "all", "mlx-lm"
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "head_dim": 64,
    "global_head_dim": WIDE,
    "vocab_size": 64,
    "vocab_size_per_layer_input": 64,
    "pad_token_id": 0,
}
SMALL_IF_ANY = {"hidden_size_per_layer_input": 64, "moe_intermediate_size": 64}
M = TypeVar("M", bound=nn.Module)


def small(text: dict[str, Any]) -> dict[str, Any]:
    """The same layers, narrow."""
    widths = {k: v for k, v in SMALL_IF_ANY.items() if text.get(k)}
    return {**text, **SMALL, **widths}


def our_model(text: dict[str, Any]) -> "Gemma4":
    from mlx_gemma4.config import Config
    from mlx_gemma4.model import Gemma4

    return Gemma4(Config.from_dict({**text, "model_type": "gemma4_text"}))


def part_of_mlx_lm(name: str) -> Any:
    """A module of it, without transformers and torch, which the whole one imports."""
    if "mlx_lm" not in sys.modules:
        spec = importlib.util.find_spec("mlx_lm")
        assert spec is not None and spec.submodule_search_locations is not None
        package = sys.modules["mlx_lm"] = ModuleType("mlx_lm")
        package.__path__ = spec.submodule_search_locations
    return importlib.import_module(f"mlx_lm.{name}")


def mlx_lm_model(text: dict[str, Any]) -> nn.Module:
    gemma4_text = part_of_mlx_lm("models.gemma4_text")
    return gemma4_text.Model(gemma4_text.ModelArgs.from_dict(text))


def quantised(model: M) -> M:
    """bfloat16 and 4 bits, without evaluating anything."""

    def cast(x: mx.array) -> mx.array:
        return x.astype(mx.bfloat16) if x.dtype == mx.float32 else x

    model.update(tree_map(cast, model.parameters()))
    nn.quantize(model, GROUP_SIZE, BITS)
    return model


def launches(model: Any, context: int) -> Counter[str]:
    """Of a token behind `context` others and one, which may have to make room."""
    return working(primitives(model, [[5] * context], [[9]], [[9]]))


def prefill_primitives(model: Any) -> int:
    """Of the second chunk of a prompt."""
    return primitives(model, *[[[5] * CHUNK]] * 2).total()


def step_of(model: Any) -> Any:
    """What decodes with it: ours is compiled."""
    from mlx_gemma4.decoding import step
    from mlx_gemma4.model import Gemma4

    return step.step_of(model) if isinstance(model, Gemma4) else model


def logits_of(found: Any) -> mx.array:
    """Of a model's call or a step's, which gives hidden states, too."""
    return found[0] if isinstance(found, tuple) else found


def primitives(model: Any, *texts: list[list[int]]) -> Counter[str]:
    """Those of the last of `texts`, read one after the other."""

    def read() -> Counter[str]:
        cache = model.make_cache()
        calls = [step_of(model) if text == [[9]] else model for text in texts]
        both = zip(calls, texts, strict=True)
        found = [call(mx.array(text), cache=cache) for call, text in both]
        outputs = [logits_of(each) for each in found]
        return in_graph(outputs) - in_graph(outputs[:-1])

    return traced(read)


def sampler_launches() -> dict[str, int]:
    """Of drawing a token with Gemma's settings, from the logits on, by program."""
    from mlx_gemma4.sampling import Sampler, Sampling

    gemma = Sampling(temperature=1.0, top_p=0.95, top_k=64)
    draw = Sampler(gemma, [], VOCABULARY)
    make_sampler = part_of_mlx_lm("sample_utils").make_sampler
    theirs = make_sampler(gemma.temperature, gemma.top_p, top_k=gemma.top_k)

    def drawn(sampler: Callable[[mx.array], mx.array]) -> int:
        logits = mx.zeros((1, VOCABULARY), mx.bfloat16)
        return working(in_graph([sampler(logits)]) - in_graph([logits])).total()

    try:
        return {
            PLAIN: traced(lambda: drawn(draw)),
            MLX_LM: traced(lambda: drawn(lambda x: theirs(x - mx.logsumexp(x)))),
        }
    finally:
        mx.random.seed(0)  # what mlx-lm left there is of the graph


def models_of(model: str) -> tuple["Gemma4", nn.Module]:
    """Ours and mlx-lm's, narrow.

    Evaluated: a compiled step would go on computing what it was traced with.
    """
    text = small(published(model))
    both = quantised(our_model(text)), quantised(mlx_lm_model(text))
    mx.eval([each.parameters() for each in both])
    return both


def settings() -> dict[str, tuple[str, ...]]:
    """Which kernels are on, by what that is called."""
    from mlx_gemma4.kernels import NAMES

    return {PLAIN: (), **{name: (name,) for name in NAMES}, ALL: NAMES}


def measure(
    model: str, context: int, host_ms: dict[str, float], drawing: dict[str, int]
) -> dict[str, Any]:
    """Of ours with all kernels, as on a Mac where they do, and of mlx-lm; and of ours
    without kernels and with each alone.

    host_ms, drawing: milliseconds of a step and launches of the sampler, by program.
    """
    from mlx_gemma4.bench.traffic import (
        cache_bytes,
        parameters,
        weight_bytes,
        weights_read,
    )
    from mlx_gemma4.kernels import using

    ours, theirs = models_of(model)
    counts = {MLX_LM: launches(theirs, context)}
    for label, names in settings().items():
        with using(*names):
            counts[label] = launches(ours, context)
    totals = {label: found.total() for label, found in counts.items()}
    text = published(model)
    whole = quantised(our_model(text))
    weights = weight_bytes(whole)
    config = whole.config.text_config
    cache = cache_bytes(config, context, mx.bfloat16)
    their_weights = sum(weights_read(parameters(quantised(mlx_lm_model(text))), config))
    return {
        "launches": totals[ALL],
        "bytes": weights + cache,
        "host_ms": host_ms[ALL],
        "prefill_primitives": prefill_primitives(ours),
        "sampler_launches": drawing[PLAIN],
        "mlx_lm": {
            "launches": totals[MLX_LM],
            "bytes": their_weights + cache,
            "host_ms": host_ms[MLX_LM],
            "prefill_primitives": prefill_primitives(theirs),
            "sampler_launches": drawing[MLX_LM],
        },
        "launches_by_kernel": totals,
        "host_ms_by_kernel": host_ms,
        "primitives": {label: dict(found) for label, found in counts.items()},
        "weight_bytes": weights,
        "cache_bytes": cache,
    }


def report(found: dict[str, dict[str, Any]], context: int) -> str:
    first = next(iter(found.values()))["launches_by_kernel"]
    lines = ["launches per token", _row("", [*first, "all/mlx-lm"])]
    for model, each in found.items():
        counts = each["launches_by_kernel"]
        lines += [_row(model, [*counts.values(), _percent(counts, ALL, MLX_LM)])]
    lines += ["", "of them removed by a kernel, from plain"]
    kernels = list(first)[2:]
    lines += [_row("", kernels)]
    for model, each in found.items():
        counts = each["launches_by_kernel"]
        removed = {k: counts[PLAIN] - counts[k] for k in kernels}
        shares = [_percent(counts | removed, k, PLAIN) for k in kernels]
        lines += [_row(model, shares)]
    lines += ["", "ms of the processor to build one decoding step"]
    lines += [_row("", [MLX_LM, PLAIN, ALL])]
    for model, each in found.items():
        times = each["host_ms_by_kernel"]
        lines += [_row(model, [f"{times[k]:.2f}" for k in (MLX_LM, PLAIN, ALL)])]
    lines += ["", f"primitives of a prompt's second chunk of {CHUNK:,} tokens"]
    lines += [_row("", [MLX_LM, PLAIN])]
    key = "prefill_primitives"
    lines += [_row(model, [f["mlx_lm"][key], f[key]]) for model, f in found.items()]
    drawing = next(iter(found.values()))
    lines += ["", "launches of the sampler", _row("", [MLX_LM, PLAIN])]
    key = "sampler_launches"
    lines += [_row("all", [drawing["mlx_lm"][key], drawing[key]])]
    lines += ["", f"bytes per token behind {context} others, and tok/s they allow at"]
    lines += [_row("", ["GB", *(f"{b} GB/s" for b in BANDWIDTHS)])]
    for model, each in found.items():
        size = each["bytes"] / 1e9
        rates = [f"{b / size:.0f}" for b in BANDWIDTHS]
        lines += [_row(model, [f"{size:.2f}", *rates])]
    return "\n".join(lines)


def _percent(counts: dict[str, int], part: str, whole: str) -> str:
    return f"{100 * counts[part] / counts[whole]:.1f} %"


def _row(label: str, cells: list[Any]) -> str:
    return f"{label:8}" + "".join(f"{cell:>11}" for cell in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description="Launches and bytes per token.")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--context", type=int, default=512, help="tokens read before")
    parser.add_argument("--json", action="store_true", help="everything counted")
    arguments = parser.parse_args()
    with pretended_metal():
        # Imported here: this project fuses functions where it finds Metal.
        from programs import need, start

        need({"mlx_lm": "mlx-lm"})
        # In a process of its own: here MLX's operations are stand-ins.
        words = arguments.context, *arguments.models
        with start("launches.py", "building", *words) as timed:
            host_ms = timed.ready
        drawing = sampler_launches()
        found = {
            m: measure(m, arguments.context, host_ms[m], drawing)
            for m in arguments.models
        }
    print(json.dumps(found) if arguments.json else report(found, arguments.context))


if __name__ == "__main__":
    main()
