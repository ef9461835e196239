"""What it takes to keep a prompt that was read and to recall it, beside reading it.

    python benchmarks/kept.py [--kind E2B 31B] [--tokens 2048 8192 32768] [--runs 3]
    python benchmarks/kept.py --layers 2 --read-most 8192

The caches are those of a published model, of all its layers or of one sliding and one
full, in bf16, and hold random numbers; prompts of up to --read-most tokens are read as
well, by a model of those layers in their real widths with random weights. Seconds are
of the processor; the system's file cache takes what is written, and has what is
recalled. See README.md here.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_map
from programs import say
from shapes import published

from mlx_gemma4 import Gemma4
from mlx_gemma4.bench.rounds import spread
from mlx_gemma4.cache import SlidingCache
from mlx_gemma4.config import Config
from mlx_gemma4.decoding.prefill import Prompt, prefill
from mlx_gemma4.decoding.prefix import PrefixCache
from mlx_gemma4.kept.folder import remove_all, total
from mlx_gemma4.kept.store import MOST_BYTES, KeptPrompts

WORDS = 4096  # of the vocabulary, which caches do not depend on
STEP = 1024  # tokens read at once
Clock = Callable[[], float]
KEPT = 4 * MOST_BYTES  # one entry takes half of it at most


@dataclass(frozen=True)
class Took:
    """Seconds of the processor: until the answer goes on, until all is written, until
    it is back; and bytes."""

    held: float
    written: float
    recalled: float
    bytes: int


def model_of(kind: str, layers: int | None) -> Gemma4:
    """Its weights are not computed before they are used."""
    text = published(kind) | {"vocab_size": WORDS, "vocab_size_per_layer_input": WORDS}
    if layers:
        few = ["sliding_attention"] * (layers - 1) + ["full_attention"]
        text |= {"num_hidden_layers": layers, "num_kv_shared_layers": 0}
        text["layer_types"] = few
    ids = {"image_token_id": 4, "audio_token_id": 5, "video_token_id": 6}
    whole = {"model_type": "gemma4", "text_config": text, **ids}
    model = Gemma4(Config.from_dict(whole))
    model.update(tree_map(lambda a: a.astype(mx.bfloat16), model.parameters()))
    return model


def filled(model: Gemma4, tokens: list[int]) -> PrefixCache:
    """As if the tokens had been read."""
    prefix, config = PrefixCache(model), model.config.text_config
    for layer, cache in enumerate(prefix.cache):
        kept = cache.kept if isinstance(cache, SlidingCache) else len(tokens)
        heads = 2 * config.layer_key_value_heads(layer)
        shape = (1, heads, min(kept, len(tokens)), config.layer_head_dim(layer))
        numbers = mx.random.normal(shape, dtype=mx.bfloat16)
        mx.eval(numbers)
        cache.put_back([numbers], len(tokens))
    prefix.extend(tokens)
    return prefix


def timed(work: Callable[[], object], clock: Clock = time.process_time) -> float:
    started = clock()
    work()
    return clock() - started


def kept(model: Gemma4, tokens: list[int], folder: Path) -> Took:
    prompts = KeptPrompts(folder, "this", KEPT)
    prefix = filled(model, tokens)
    started = time.process_time()
    held = timed(partial(prompts.keep, prefix), time.thread_time)
    prompts.close()
    written = time.process_time() - started
    del prefix  # its memory may be needed
    if prompts.trouble or not (size := total(folder)):
        raise SystemExit(f"Nothing was kept: {prompts.trouble}")
    other = PrefixCache(model)
    recalled = timed(lambda: prompts.recall(other, [*tokens, 5]))
    assert other.tokens == tokens
    remove_all(folder)
    return Took(held, written, recalled, size)


def reading(model: Gemma4, tokens: list[int]) -> float:
    prefix = PrefixCache(model)
    mx.eval(model.parameters())
    return timed(lambda: prefill(model, Prompt(tokens, (), tokens), prefix, 0, STEP))


def shown(seconds: list[float]) -> str:
    return f"{spread(seconds).text('{:.3g}'.format)} s"


def measured(asked: argparse.Namespace, folder: Path) -> Iterator[str]:
    for kind in asked.kind:
        model = model_of(kind, asked.layers)
        own = len(model.make_cache())
        yield f"{kind}, {own} layers with keys and values of their own"
        for count in asked.tokens:
            say(f"{kind}: {count:,} tokens")
            tokens = [2, *(10 + n * n % 4001 for n in range(count - 1))]
            found = [kept(model, tokens, folder) for _ in range(asked.runs)]
            told = [f"{count:>7,} tokens: {found[0].bytes / 1e6:8.1f} MB"]
            told += [
                f"{name} {shown([getattr(each, name) for each in found])}"
                for name in ("held", "written", "recalled")
            ]
            if count <= asked.read_most:
                took = [reading(model, tokens) for _ in range(asked.read_runs)]
                told.append(f"read anew {shown(took)}")
            yield ", ".join(told)


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = ["E2B", "E4B", "12B", "26B-A4B", "31B"]
    parser.add_argument("--kind", nargs="+", default=["E2B", "31B"], choices=kinds)
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 8192, 32768])
    parser.add_argument("--layers", type=int, help="the last is a full one")
    parser.add_argument("--read-most", type=int, default=0, metavar="N")
    parser.add_argument("--read-runs", type=int, default=1, metavar="N")
    parser.add_argument("--runs", type=int, default=3, metavar="N")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for line in measured(asked, Path(folder)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
