"""Random checkpoints in the Hub's layout, made once and kept.

    python checkpoint.py ROOT KIND DTYPE [WINDOW]

prints the folder. What a benchmark times depends on shapes, not on values, but greedy
tokens can only be compared if the values are not degenerate: norms, scalars and router
scales are random too, and logits are of order 10.
"""

import json
import math
import shutil
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from shapes import EOS, SPECIAL, config_of, tensor_shapes

SEED = 0
SHARD_BYTES = 10**9


def make(root: Path, kind: str, dtype: str, window: int | None) -> Path:
    """The folder of a checkpoint, written unless it is there already."""
    config = config_of(kind, dtype, window)
    window = config["text_config"]["sliding_window"]
    folder = root / f"{kind}-{dtype}-window{window}-seed{SEED}"
    stated = json.dumps(config, indent=1)
    if (folder / "config.json").is_file():
        if (folder / "config.json").read_text() == stated:
            return folder
        shutil.rmtree(folder)  # of another version of this file
    write(folder, config)
    return folder


def write(folder: Path, config: Mapping[str, Any]) -> None:
    """A folder with random weights for a config.json, in files of about a gigabyte."""
    folder.mkdir(parents=True, exist_ok=True)
    text = config["text_config"]
    dtype, shapes = getattr(mx, text["dtype"]), tensor_shapes(config)
    files: dict[str, str] = {}
    for i, names in enumerate(_shards(shapes, dtype.size)):
        file = f"model-{i + 1:05d}.safetensors"
        tensors = {name: _random(name, shapes[name]).astype(dtype) for name in names}
        mx.save_safetensors(str(folder / file), tensors, {"format": "pt"})
        files |= dict.fromkeys(names, file)
        del tensors
        mx.clear_cache()
    # mlx-vlm takes towers to be absent only where an index says so.
    index = {"metadata": {}, "weight_map": files}
    _write(folder / "model.safetensors.index.json", index)
    _write(folder / "generation_config.json", {"eos_token_id": EOS})
    _write(folder / "tokenizer.json", _tokenizer(text["vocab_size"]))
    _write(folder / "tokenizer_config.json", _TOKENIZER_CONFIG)
    # Last: a cut-off write starts again.
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def _shards(shapes: Mapping[str, tuple[int, ...]], width: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    size = 0
    for name, shape in shapes.items():
        if shards[-1] and size + width * math.prod(shape) > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += width * math.prod(shape)
    return shards


# Larger query and key norms would make attention pick single keys (its scale is 1);
# smaller last and embedded ones would repeat the last token for ever.
_SIZES = {"q_norm.weight": 0.4, "k_norm.weight": 0.4, "language_model.norm.weight": 4.0}


def _random(name: str, shape: tuple[int, ...]) -> mx.array:
    """Values that depend on name, shape and SEED alone."""
    key = mx.random.key(zlib.crc32(f"{SEED}:{name}:{shape}".encode()))
    if len(shape) == 1:
        values = mx.random.uniform(0.5, 1.5, shape, key=key)
        sizes = (size for end, size in _SIZES.items() if name.endswith(end))
        return values * next(sizes, 1.0)
    values = mx.random.normal(shape, scale=shape[-1] ** -0.5, key=key)
    if name.endswith("embed_tokens.weight"):
        values[EOS] = 0  # a logit of 0 is never the highest: nothing stops early
    return values


_TOKENIZER_CONFIG = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "tokenizer_class": "PreTrainedTokenizerFast",
}


def _tokenizer(vocab_size: int) -> dict[str, Any]:
    """A tokenizer.json in Gemma's form whose every id has a text."""
    pieces = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [f"▁w{i}" for i in range(len(pieces), vocab_size)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    flags |= {"normalized": False, "special": True}
    space = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": piece, **flags} for i, piece in enumerate(SPECIAL)
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [space, {"type": "ByteFallback"}, {"type": "Fuse"}],
        },
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {piece: i for i, piece in enumerate(pieces)},
            "merges": [],
        },
    }


def _write(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")


if __name__ == "__main__":
    root, kind, dtype, *window = sys.argv[1:]
    print(make(Path(root), kind, dtype, int(window[0]) if window else None))
