"""How far off 8 and 4 bits put the attention of full layers, and the demo's logits.

    python benchmarks/kv_bits.py            # minutes on a CPU
    python benchmarks/kv_bits.py --json

Errors are relative: the root of the mean square of what differs, over that of what is
right. Both packings go through the same code; only 8 is offered. See README.md here.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import mlx.core as mx

from mlx_gemma4 import load
from mlx_gemma4.cache import FullCache, LayerCache, PackedSeen, make_cache
from mlx_gemma4.model import Gemma4
from mlx_gemma4.text.packed import attend_packed

BITS = (8, 4)
KEYS, QUERIES, DIM = 8192, 16, 512
SHAPES = {"E2B": (8, 1), "31B": (32, 4)}  # heads of queries and keys of full layers
SCORES = 0.35  # by which queries of norm 1 are weighted: scores of up to 30
README = Path(__file__).resolve().parent.parent / "README.md"
TEXT = 3072  # tokens of README
STEP = 512


@dataclass(frozen=True)
class Found:
    """Of a comparison: what differs, relatively; of logits also the tokens (of 100)
    whose likeliest successor is another, and the mean divergence in nats."""

    what: str
    bits: int
    error: float
    others: float | None = None
    divergence: float | None = None


def normed(shape: tuple[int, ...]) -> mx.array:
    x = mx.random.normal(shape)
    return x * mx.rsqrt((x * x).mean(axis=-1, keepdims=True))


def off(ours: mx.array, right: mx.array) -> float:
    ours, right = ours.astype(mx.float32), right.astype(mx.float32)
    error = mx.sqrt(((ours - right) ** 2).mean() / (right**2).mean())
    return cast(float, error.item())


def of_attention(dtype: mx.Dtype) -> Iterator[Found]:
    """Beside float32 without packing, of what is rounded to `dtype` before."""
    for name, (heads, kv_heads) in SHAPES.items():
        queries = (SCORES * normed((1, heads, QUERIES, DIM))).astype(dtype)
        keys, values = (normed((1, kv_heads, KEYS, DIM)).astype(dtype) for _ in "kv")
        exact = (x.astype(mx.float32) for x in (queries, keys, values))
        right = mx.fast.scaled_dot_product_attention(*exact, scale=1.0)
        what = f"attention of {name}'s heads, {str(dtype).removeprefix('mlx.core.')}"
        for bits in BITS:
            seen = FullCache(bits).append((keys, values))
            assert isinstance(seen, PackedSeen)
            found = attend_packed(queries.astype(mx.float32), seen, causal=False)
            yield Found(what, bits, off(found, right))
            if dtype == mx.bfloat16:
                yield Found(
                    f"{what}, scores too", bits, off(rounded(queries, seen), right)
                )


def rounded(queries: mx.array, seen: PackedSeen) -> mx.array:
    """What is found behind the beginning and in it, by scores in bfloat16."""
    shape = 1, seen.heads, -1, DIM
    keys, values = (x.astype(mx.bfloat16) for x in (seen.keys, seen.values))
    scores = queries.reshape(shape) @ keys.swapaxes(2, 3)
    shares = mx.softmax(scores.astype(mx.float32), axis=-1)
    return (shares @ values.astype(mx.float32)).reshape(queries.shape)


def caches(model: Gemma4, bits: int | None) -> list[LayerCache]:
    """With full layers in `bits`, also in those that are not offered."""
    plain = make_cache(model.config.text_config)
    return [FullCache(bits) if isinstance(x, FullCache) else x for x in plain]


def logits(model: Gemma4, tokens: list[int], bits: int | None) -> mx.array:
    """Of the positions behind the first that is packed: [L, vocab]."""
    cache, rows = caches(model, bits), []
    for start in range(0, len(tokens), STEP):
        found = model(mx.array([tokens[start : start + STEP]]), cache)[0]
        rows.append(found.astype(mx.float32))
        mx.eval(rows[-1])
    return mx.concatenate(rows)[1024:]


def of_logits(what: str, model: Gemma4, tokens: list[int]) -> Iterator[Found]:
    right = logits(model, tokens, None)
    likely = right - mx.logsumexp(right, axis=-1, keepdims=True)
    for bits in BITS:
        ours = logits(model, tokens, bits)
        ours -= mx.logsumexp(ours, axis=-1, keepdims=True)
        others = 100 * (ours.argmax(axis=-1) != right.argmax(axis=-1)).mean()
        divergence = (mx.exp(likely) * (likely - ours)).sum(axis=-1).mean()
        told = cast(float, others.item()), cast(float, divergence.item())
        yield Found(what, bits, off(ours, likely), *told)


def line(found: Found) -> str:
    told = f"{found.what:48} {found.bits} bits  {100 * found.error:6.2f} %"
    if found.others is None:
        return told
    return f"{told}  {found.others:5.2f} % other tokens  {found.divergence:.2g} nats"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    mx.random.seed(0)
    demo, processor = load("demo")
    read = processor.tokenizer.encode(README.read_text(encoding="utf-8"))[:TEXT]
    comparisons = (
        of_attention(mx.float32),
        of_attention(mx.bfloat16),
        of_logits("the demo's logits, of README", demo, read),
    )
    for each in comparisons:
        for found in each:
            print(json.dumps(asdict(found)) if as_json else line(found), flush=True)


if __name__ == "__main__":
    main()
