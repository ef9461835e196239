"""The shapes of the random models, from config.json to every tensor."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<|image|>", "<|audio|>", "<|video|>")
EOS = 1
FIRST_WORD = len(SPECIAL) + 256  # after the special tokens and the bytes

_TEXT: dict[str, Any] = {
    "attention_bias": False,
    "attention_k_eq_v": False,
    "bos_token_id": 2,
    "enable_moe_block": False,
    "eos_token_id": EOS,
    "final_logit_softcapping": 30.0,
    "global_head_dim": 256,
    "head_dim": 128,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 512,
    "hidden_size_per_layer_input": 0,
    "intermediate_size": 1152,
    "layer_types": [],
    "max_position_embeddings": 131072,
    "model_type": "gemma4_text",
    "moe_intermediate_size": None,
    "num_attention_heads": 8,
    "num_experts": None,
    "num_global_key_value_heads": None,
    "num_hidden_layers": 12,
    "num_key_value_heads": 1,
    "num_kv_shared_layers": 0,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {
        "full_attention": {
            "partial_rotary_factor": 0.25,
            "rope_theta": 1000000.0,
            "rope_type": "proportional",
        },
        "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
    },
    "sliding_window": 512,
    "tie_word_embeddings": True,
    "top_k_experts": None,
    "use_bidirectional_attention": None,
    "use_double_wide_mlp": False,
    "vocab_size": 32768,
    "vocab_size_per_layer_input": 32768,
}

_E2B = {
    "hidden_size_per_layer_input": 64,
    "num_kv_shared_layers": 6,
    "use_double_wide_mlp": True,
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
    "attention_k_eq_v": True,
    "enable_moe_block": True,
    "global_head_dim": 128,
    "head_dim": 64,
    "intermediate_size": 1024,
    "moe_intermediate_size": 256,
    "num_experts": 32,
    "num_global_key_value_heads": 1,
    "num_key_value_heads": 2,
    "top_k_experts": 4,
}


@dataclass(frozen=True)
class Kind:
    """A model shape: how many sliding layers precede each full one, what differs."""

    sliding: int
    changes: Mapping[str, Any]


KINDS = {
    "e2b-like": Kind(2, _E2B),
    "moe-like": Kind(5, _MOE),
    "tiny": Kind(2, {**_E2B, **_TINY}),
}


def config_of(kind: str, dtype: str, window: int | None) -> dict[str, Any]:
    """The content of config.json; `window` replaces the kind's own."""
    text = {**_TEXT, **KINDS[kind].changes, "dtype": dtype}
    pattern = [*["sliding_attention"] * KINDS[kind].sliding, "full_attention"]
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


def tensor_shapes(text: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Hub name -> shape of every tensor."""
    hidden, layers = text["hidden_size"], text["num_hidden_layers"]
    shapes: dict[str, tuple[int, ...]] = {
        "embed_tokens.weight": (text["vocab_size"], hidden),
        "norm.weight": (hidden,),
    }
    if size := text["hidden_size_per_layer_input"]:
        table = (text["vocab_size_per_layer_input"], layers * size)
        shapes["embed_tokens_per_layer.weight"] = table
        shapes["per_layer_model_projection.weight"] = (layers * size, hidden)
        shapes["per_layer_projection_norm.weight"] = (size,)
    for i in range(layers):
        layer = _attention(text, i) | _feed_forward(text, i)
        shapes |= {f"layers.{i}.{name}": shape for name, shape in layer.items()}
    return {f"model.language_model.{name}": shape for name, shape in shapes.items()}


def _attention(text: Mapping[str, Any], i: int) -> dict[str, tuple[int, ...]]:
    full = text["layer_types"][i] == "full_attention"
    hidden, dim = text["hidden_size"], text["global_head_dim" if full else "head_dim"]
    width = text["num_attention_heads"] * dim
    shapes: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (hidden,),
        "layer_scalar": (1,),
        "post_attention_layernorm.weight": (hidden,),
        "self_attn.o_proj.weight": (hidden, width),
        "self_attn.q_norm.weight": (dim,),
        "self_attn.q_proj.weight": (width, hidden),
    }
    if i >= text["num_hidden_layers"] - text["num_kv_shared_layers"]:
        return shapes
    keys_are_values = full and text["attention_k_eq_v"]
    heads = text[f"num_{'global_' if keys_are_values else ''}key_value_heads"]
    shapes["self_attn.k_norm.weight"] = (dim,)
    shapes["self_attn.k_proj.weight"] = (heads * dim, hidden)
    if not keys_are_values:
        shapes["self_attn.v_proj.weight"] = (heads * dim, hidden)
    return shapes


def _feed_forward(text: Mapping[str, Any], i: int) -> dict[str, tuple[int, ...]]:
    hidden, width = text["hidden_size"], text["intermediate_size"]
    if i >= text["num_hidden_layers"] - text["num_kv_shared_layers"]:
        width *= 2 if text["use_double_wide_mlp"] else 1
    norms = ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    shapes: dict[str, tuple[int, ...]] = {
        "mlp.down_proj.weight": (hidden, width),
        "mlp.gate_proj.weight": (width, hidden),
        "mlp.up_proj.weight": (width, hidden),
    }
    if size := text["hidden_size_per_layer_input"]:
        norms += ["post_per_layer_input_norm"]
        shapes["per_layer_input_gate.weight"] = (size, hidden)
        shapes["per_layer_projection.weight"] = (hidden, size)
    if text["enable_moe_block"]:
        count, inner = text["num_experts"], text["moe_intermediate_size"]
        norms += [f"{norms[1]}_1", f"{norms[1]}_2", f"{norms[0]}_2"]
        shapes["experts.down_proj"] = (count, hidden, inner)
        shapes["experts.gate_up_proj"] = (count, 2 * inner, hidden)
        shapes["router.per_expert_scale"] = (count,)
        shapes["router.proj.weight"] = (count, hidden)
        shapes["router.scale"] = (hidden,)
    return shapes | {f"{norm}.weight": (hidden,) for norm in norms}
