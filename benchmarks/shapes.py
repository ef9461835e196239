"""The shapes of the random models: published ones, made smaller."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REAL = Path(__file__).resolve().parent.parent / "tests/fixtures/real/google"
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<|image|>", "<|audio|>", "<|video|>")
EOS = 1
FIRST_WORD = len(SPECIAL) + 256  # after the special tokens and the bytes

_E2B = {
    "global_head_dim": 256,
    "head_dim": 128,
    "hidden_size": 512,
    "hidden_size_per_layer_input": 64,
    "intermediate_size": 1152,
    "num_hidden_layers": 12,
    "num_kv_shared_layers": 6,
    "vocab_size": 32768,
    "vocab_size_per_layer_input": 32768,
}
_TINY = {
    "global_head_dim": 32,
    "head_dim": 16,
    "hidden_size": 32,
    "hidden_size_per_layer_input": 8,
    "intermediate_size": 48,
    "num_attention_heads": 2,
    "num_hidden_layers": 6,
    "num_kv_shared_layers": 3,
    "sliding_window": 8,
    "vocab_size": 512,
    "vocab_size_per_layer_input": 512,
}
_MOE = {
    "global_head_dim": 128,
    "head_dim": 64,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "max_position_embeddings": 131072,
    "moe_intermediate_size": 256,
    "num_attention_heads": 8,
    "num_experts": 32,
    "num_global_key_value_heads": 1,
    "num_hidden_layers": 12,
    "num_key_value_heads": 2,
    "sliding_window": 512,
    "top_k_experts": 4,
    "use_bidirectional_attention": None,
    "vocab_size": 32768,
    "vocab_size_per_layer_input": 32768,
}


@dataclass(frozen=True)
class Kind:
    """A shape: of which published model, how many sliding layers precede each full one,
    and what else differs."""

    model: str
    sliding: int
    changes: Mapping[str, Any]


KINDS = {
    "e2b-like": Kind("E2B", 2, _E2B),
    "moe-like": Kind("26B-A4B", 5, _MOE),
    "tiny": Kind("E2B", 2, _TINY),
    "two-layers": Kind("E2B", 1, {}),  # of widths that tune.py states
}


def published(model: str) -> dict[str, Any]:
    """The text decoder's part of a published config.json."""
    # Of 12B only the compressed copy's file is public: the same text decoder.
    copy = "-qat-w4a16-ct" if model == "12B" else ""
    file = REAL / f"gemma-4-{model}-it{copy}" / "config.json"
    config = json.loads(file.read_text())
    return config.get("text_config", config)


def config_of(
    kind: str, dtype: str, window: int | None = None, **changes: Any
) -> dict[str, Any]:
    """The content of config.json; `window` and `changes` replace the kind's own."""
    chosen = KINDS[kind]
    text = {**published(chosen.model), **chosen.changes, "dtype": dtype, **changes}
    pattern = [*["sliding_attention"] * chosen.sliding, "full_attention"]
    text["layer_types"] = pattern * (text["num_hidden_layers"] // len(pattern))
    text["sliding_window"] = window or text["sliding_window"]
    ids = {f"{name[2:-2]}_token_id": SPECIAL.index(name) for name in SPECIAL[4:]}
    return {
        "architectures": ["Gemma4ForConditionalGeneration"],
        "dtype": dtype,
        "eos_token_id": EOS,
        "model_type": "gemma4",
        "text_config": text,
        "tie_word_embeddings": True,
        **ids,
    }


def tensor_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Hub name -> shape of every tensor; none is allocated."""
    from mlx.utils import tree_flatten

    from mlx_gemma4.config import Config
    from mlx_gemma4.model import Gemma4

    parameters: Any = tree_flatten(Gemma4(Config.from_dict(dict(config))).parameters())
    return {_hub_name(name): array.shape for name, array in parameters}


def _hub_name(name: str) -> str:
    """The Hub's experts are parameters, not modules with a weight."""
    return "model." + (name.removesuffix(".weight") if ".experts." in name else name)
