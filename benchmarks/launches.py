"""How many kernels a GPU is asked to run for one decoded token, and how many bytes.

Neither needs a GPU. Launches are counted in the graph of a forward pass, with the real
models' layers at small widths, for this project (plain, and with its kernels) and for
mlx-lm. Bytes are those of the weights and of the keys and values that a token reads, at
the real widths, which are never allocated.

Counted as one launch: every primitive that does something, each of MLX's fused
operations (norm, rotation, attention), and each function under `mx.compile`. Where MLX
has no fused attention for one query, on heads of 512 elements, what it makes of it
counts. Not counted: views, what comes behind the logits, and the second launch that
MLX's attention takes on some GPUs.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from unittest import mock

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

if TYPE_CHECKING:
    from mlx_gemma4.model import Gemma4

CONFIGS = Path(__file__).resolve().parent.parent / "tests/fixtures/configs"
MODELS = ("E2B", "E4B", "26B-A4B", "31B")
# GB/s, as published: M2 and M3; M4 Pro; M1 to M3 Max; M4 Max; M3 Ultra.
BANDWIDTHS = (100, 273, 400, 546, 819)
GROUP_SIZE, BITS = 64, 4
WIDE = 128  # elements of a head, in place of 512
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
VIEWS = {
    "AsStrided",
    "Broadcast",
    "Depends",
    "ExpandDims",
    "Flatten",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "StopGradient",
    "Transpose",
    "Unflatten",
    "View",
}

Call = Callable[..., mx.array]
M = TypeVar("M", bound=nn.Module)


def read_config(model: str) -> dict[str, Any]:
    config = json.loads((CONFIGS / f"{model}.json").read_text())
    return config.get("text_config", config)


def small(text: dict[str, Any]) -> dict[str, Any]:
    """The same layers, narrow."""
    widths = {k: v for k, v in SMALL_IF_ANY.items() if text.get(k)}
    return {**text, **SMALL, **widths}


def one_launch(name: str) -> Call:
    """A stand-in for what is one kernel on a GPU: elementwise, or like its first input.

    The other inputs count too: they must stay in the graph.
    """
    kernels: dict[int, Any] = {}

    def call(*arguments: Any, **_: Any) -> mx.array:
        arrays = [a for a in arguments if isinstance(a, mx.array)]
        like = mx.broadcast_arrays(*arrays)[0] if name == "compiled" else arrays[0]
        if (n := len(arrays)) not in kernels:
            inputs = [f"in{i}" for i in range(n)]
            kernels[n] = mx.fast.metal_kernel(name, inputs, ["out"], "out[0] = 0;")
        (out,) = kernels[n](
            inputs=arrays,
            output_shapes=[like.shape],
            output_dtypes=[like.dtype],
            grid=(1, 1, 1),
            threadgroup=(1, 1, 1),
        )
        return out

    return call


fused, unfused = one_launch("attention"), mx.fast.scaled_dot_product_attention


def attention(*arrays: mx.array, mask: Any = None, **options: Any) -> mx.array:
    """Fused where MLX has a kernel: on wide heads for one query without a mask array,
    eight of them to 1024 keys or more."""
    queries, keys, _ = arrays
    alone = queries.shape[2] == 1 and not isinstance(mask, mx.array)
    many = queries.shape[1] == 8 * keys.shape[1] and keys.shape[2] >= 1024
    if queries.shape[3] < WIDE or (alone and many):
        return fused(*arrays)
    return unfused(*arrays, mask=mask, **options)


def dequantised(weight: mx.array, *rest: mx.array, bits: int, **_: Any) -> mx.array:
    """One launch on a GPU; on a CPU MLX would write it out in many."""
    packed = one_launch("dequantised")(weight, *rest)
    shape = (*weight.shape[:-1], weight.shape[-1] * 32 // bits)
    return mx.broadcast_to(packed[..., :1].view(mx.bfloat16)[..., :1], shape)


class WithoutGradient:
    """In place of `mx.custom_function`, which no graph can be exported with."""

    def __init__(self, function: Call):
        self.call = function

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)

    def vjp(self, function: Call) -> Call:
        return function


@contextmanager
def pretended_metal() -> Iterator[None]:
    """MLX as it is with a GPU, for graphs that are never evaluated."""

    def compiled(function: Call | None = None, **_: Any) -> Any:
        return one_launch("compiled") if function else compiled

    with (
        mock.patch.object(mx.metal, "is_available", lambda: True),
        mock.patch.object(mx, "compile", compiled),
        mock.patch.object(mx, "custom_function", WithoutGradient),
        mock.patch.object(nn, "gelu_approx", one_launch("compiled")),
        mock.patch.object(mx, "dequantize", dequantised),
        mock.patch.object(mx.fast, "rms_norm", one_launch("norm")),
        mock.patch.object(mx.fast, "rope", one_launch("rope")),
        mock.patch.object(mx.fast, "scaled_dot_product_attention", attention),
    ):
        yield


def our_model(text: dict[str, Any]) -> "Gemma4":
    from mlx_gemma4.config import Config
    from mlx_gemma4.model import Gemma4

    return Gemma4(Config.from_dict({**text, "model_type": "gemma4_text"}))


def mlx_lm_model(text: dict[str, Any]) -> nn.Module:
    from mlx_lm.models import gemma4_text

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

    def decoded(tokens: int) -> list[mx.array]:
        cache = model.make_cache()
        texts = [[[5] * context], *([[[9]]] * tokens)]
        return [model(mx.array(x), cache=cache) for x in texts]

    return count(lambda: decoded(2)) - count(lambda: decoded(1))


def count(function: Callable[[], list[mx.array]]) -> Counter[str]:
    found: Counter[str] = Counter()

    def note(entry: dict[str, Any]) -> None:
        if entry["type"] == "primitive" and entry["name"] not in VIEWS:
            found[entry["name"]] += 1

    export: Any = mx.export_function
    export(note, function)
    return found


def measure(model: str, context: int) -> dict[str, Any]:
    from mlx_gemma4.bench.traffic import cache_bytes, weight_bytes
    from mlx_gemma4.kernels import NAMES, using

    text = read_config(model)
    narrow = small(text)
    ours = quantised(our_model(narrow))
    settings = {"plain": (), **{n: (n,) for n in NAMES}, "all": NAMES}
    counts = {"mlx-lm": launches(quantised(mlx_lm_model(narrow)), context)}
    for label, names in settings.items():
        with using(*names):
            counts[label] = launches(ours, context)
    whole = quantised(our_model(text))
    return {
        "launches": {label: found.total() for label, found in counts.items()},
        "primitives": {label: dict(found) for label, found in counts.items()},
        "weight_bytes": weight_bytes(whole),
        "cache_bytes": cache_bytes(whole.config.text_config, context, mx.bfloat16),
    }


def report(found: dict[str, dict[str, Any]], context: int) -> str:
    first = next(iter(found.values()))["launches"]
    lines = ["launches per token"]
    lines += [_row("", [*first, "all/mlx-lm"])]
    for model, each in found.items():
        counts = each["launches"]
        lines += [_row(model, [*counts.values(), _percent(counts, "all", "mlx-lm")])]
    lines += ["", "of them removed by a kernel, from plain"]
    kernels = list(first)[2:]
    lines += [_row("", kernels)]
    for model, each in found.items():
        counts = each["launches"]
        removed = {k: counts["plain"] - counts[k] for k in kernels}
        shares = [_percent(counts | removed, k, "plain") for k in kernels]
        lines += [_row(model, shares)]
    lines += ["", f"bytes per token behind {context} others, and tok/s they allow at"]
    lines += [_row("", ["GB", *(f"{b} GB/s" for b in BANDWIDTHS)])]
    for model, each in found.items():
        size = (each["weight_bytes"] + each["cache_bytes"]) / 1e9
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
        found = {m: measure(m, arguments.context) for m in arguments.models}
    print(json.dumps(found) if arguments.json else report(found, arguments.context))


if __name__ == "__main__":
    main()
