"""Names, shapes and deterministic random values of the tiny checkpoints' tensors.

A value depends on (name, shape, seed) alone, so the reference and this project are
filled from the same function and fixtures need only hold expected outputs.
Nothing keeps a trivial initial value: norms, scalars and router scales are all random.
"""

import re
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

FULL = "full_attention"


def tensor_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every text tensor, without the unused k/v of KV-shared layers.

    Written from the published layout, apart from the library's own modules.
    """
    whole = "text_config" in config
    text = config["text_config"] if whole else config
    prefix = "model.language_model." if whole else "model."
    hidden, layers = text["hidden_size"], text["num_hidden_layers"]
    shapes: dict[str, tuple[int, ...]] = {
        "embed_tokens.weight": (text["vocab_size"], hidden),
        "norm.weight": (hidden,),
    }
    if width := text["hidden_size_per_layer_input"]:
        table = text["vocab_size_per_layer_input"]
        shapes["embed_tokens_per_layer.weight"] = (table, layers * width)
        shapes["per_layer_model_projection.weight"] = (layers * width, hidden)
        shapes["per_layer_projection_norm.weight"] = (width,)
    for i in range(layers):
        shapes |= {f"layers.{i}.{n}": s for n, s in _layer_shapes(text, i).items()}
    named = {prefix + name: shape for name, shape in shapes.items()}
    if not text["tie_word_embeddings"]:
        named["lm_head.weight"] = (text["vocab_size"], hidden)
    return named


def _layer_shapes(text: Mapping[str, Any], i: int) -> dict[str, tuple[int, ...]]:
    hidden, shared = text["hidden_size"], is_kv_shared(text, i)
    wide = 2 if shared and text["use_double_wide_mlp"] else 1
    ff = text["intermediate_size"] * wide
    shapes: dict[str, tuple[int, ...]] = {
        "layer_scalar": (1,),
        "mlp.gate_proj.weight": (ff, hidden),
        "mlp.up_proj.weight": (ff, hidden),
        "mlp.down_proj.weight": (hidden, ff),
        **{f"self_attn.{n}": s for n, s in _attention_shapes(text, i).items()},
    }
    norms = ["input", "post_attention", "pre_feedforward", "post_feedforward"]
    shapes |= {f"{norm}_layernorm.weight": (hidden,) for norm in norms}
    if width := text["hidden_size_per_layer_input"]:
        shapes["per_layer_input_gate.weight"] = (width, hidden)
        shapes["per_layer_projection.weight"] = (hidden, width)
        shapes["post_per_layer_input_norm.weight"] = (hidden,)
    if text["enable_moe_block"]:
        experts, f = text["num_experts"], text["moe_intermediate_size"]
        norms = ["post_feedforward", "post_feedforward", "pre_feedforward"]
        for norm, n in zip(norms, (1, 2, 2), strict=True):
            shapes[f"{norm}_layernorm_{n}.weight"] = (hidden,)
        shapes["router.proj.weight"] = (experts, hidden)
        shapes["router.scale"] = (hidden,)
        shapes["router.per_expert_scale"] = (experts,)
        shapes["experts.gate_up_proj"] = (experts, 2 * f, hidden)
        shapes["experts.down_proj"] = (experts, hidden, f)
    return shapes


def _attention_shapes(text: Mapping[str, Any], i: int) -> dict[str, tuple[int, ...]]:
    full = text["layer_types"][i] == FULL
    hidden, heads = text["hidden_size"], text["num_attention_heads"]
    dim = text["global_head_dim" if full else "head_dim"]
    k_is_v = full and text["attention_k_eq_v"]
    kv = text["num_global_key_value_heads" if k_is_v else "num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {
        "q_proj.weight": (heads * dim, hidden),
        "o_proj.weight": (hidden, heads * dim),
        "q_norm.weight": (dim,),
    }
    if is_kv_shared(text, i):
        return shapes
    shapes |= {"k_proj.weight": (kv * dim, hidden), "k_norm.weight": (dim,)}
    if not k_is_v:
        shapes["v_proj.weight"] = (kv * dim, hidden)
    return shapes


def is_kv_shared(text: Mapping[str, Any], i: int) -> bool:
    return i >= text["num_hidden_layers"] - text["num_kv_shared_layers"]


def unused_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """k_proj, v_proj and k_norm of KV-shared layers, which Google's files carry."""
    alone = dict(config.get("text_config", config))
    alone["num_kv_shared_layers"], alone["use_double_wide_mlp"] = 0, False
    owned = {**config, "text_config": alone} if "text_config" in config else alone
    present = tensor_shapes(config)
    return {n: s for n, s in tensor_shapes(owned).items() if n not in present}


# First match decides: uniform in (low, high). All else is normal. The sizes keep logits
# of order 10, below the cap, and float32 rounding well below the bar of 2e-4.
_UNIFORM = (
    (r"layer_scalar$", 0.6, 1.3),
    (r"per_expert_scale$", 0.5, 1.5),
    (r"router\.scale$", 0.5, 1.5),
    (r"(q|k)_norm\.weight$", 0.4, 0.8),
    (r"(^|model\.)norm\.weight$", 1.0, 2.0),
    (r"post_\w*norm(_\d)?\.weight$", 0.3, 1.2),
    (r"norm(_\d)?\.weight$", 0.5, 1.5),
)


def random_tensor(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """float32 values of one tensor, from RandomState, whose stream is frozen."""
    draw = np.random.RandomState(zlib.crc32(f"{seed}:{name}:{shape}".encode()))
    for pattern, low, high in _UNIFORM:
        if re.search(pattern, name):
            return draw.uniform(low, high, shape).astype(np.float32)
    std = 1.0 / np.sqrt(shape[-1])
    if re.search(r"embed_tokens\.weight$|lm_head\.weight$", name):
        std *= 3.0
    elif re.search(r"embed_tokens_per_layer\.weight$", name):
        std = 0.5
    elif re.search(r"router\.proj\.weight$", name):
        std = 1.5
    elif re.search(r"per_layer_input_gate\.weight$", name):
        # Deep in GELU's tail a narrow gate has no digits left, and a norm follows.
        std *= 0.3
    return (draw.standard_normal(shape) * std).astype(np.float32)


def random_tensors(
    shapes: Mapping[str, tuple[int, ...]], seed: int
) -> dict[str, np.ndarray]:
    return {name: random_tensor(name, tuple(s), seed) for name, s in shapes.items()}


def random_tokens(length: int, seed: int, vocab: int = 80) -> list[int]:
    """Text token ids, below every media id and every table's size."""
    return np.random.RandomState(seed).randint(3, vocab, length).tolist()
