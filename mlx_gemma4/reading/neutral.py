"""Which keys of a model's JSON files change nothing about what it computes.

Configuration files come from Google, from several releases of transformers, from
converters and from trainers, and each adds keys of its own. What matters is whether a
key could change a computation: one that is off, or that is known to say nothing about
it, is passed over; what is left is told to the user.
"""

from collections.abc import Iterable, Mapping, Set
from typing import Any

# Bookkeeping, and the settings of training, of sampling and of other programs.
# (Sampling settings are read from generation_config.json; mlx-vlm copies them here.)
HARMLESS = frozenset(
    {
        "architectures",
        "attention_invalid_logits_value",  # beyond the mask: vanishes in the softmax
        "attn_implementation",
        "auto_map",
        "chunk_size_feed_forward",
        "do_sample",
        "dtype",
        "generation_config",
        "id2label",
        "initializer_range",
        "label2id",
        "max_length",
        "model_name",
        "model_type",
        "name_or_path",
        "num_labels",
        "pruned_heads",
        "return_dict",
        "sliding_window_pattern",  # layer_types says it layer by layer
        "temperature",
        "tokenizer_class",
        "top_k",
        "top_p",
        "torch_dtype",
        "use_return_dict",
    }
)
# Of generation, wherever it is stated: bookkeeping, speed, and what works only together
# with something that is said itself.
GENERATION = {
    *("_from_model_config", "_commit_hash", "transformers_version"),
    *("bos_token_id", "pad_token_id", "decoder_start_token_id"),
    *("use_cache", "cache_config", "max_cache_len", "prefill_chunk_size"),
    *("compile_config", "disable_compile", "low_memory", "return_dict_in_generate"),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits"),
    *("early_stopping", "length_penalty", "num_beam_groups", "diversity_penalty"),
    *("renormalize_logits", "remove_invalid_values", "is_assistant"),
    *("num_assistant_tokens", "num_assistant_tokens_schedule"),
    *("assistant_confidence_threshold", "assistant_early_exit"),
    *("assistant_lookbehind", "target_lookbehind"),
    *("prompt_lookup_num_tokens", "max_matching_ngram_size", "use_mtp"),
}
CACHES = ("dynamic", "static", "hybrid", "sliding_window", "hybrid_chunked")
CACHES += ("dynamic_full", "offloaded", "offloaded_static", "offloaded_hybrid")
# Beside null, false and what is empty, the values that do nothing.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "begin_suppress_tokens": (),
    "cache_implementation": CACHES,
    "encoder_repetition_penalty": (1,),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "guidance_scale": (1,),
    "max_length": (20,),  # older versions write their default
    "max_new_tokens": (),
    "max_time": (),
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "repetition_penalty": (1,),
    "typical_p": (1,),
}
# Other models compute with these; Gemma 4 does not, and what states them is none.
UNSUPPORTED = frozenset({"attn_logit_softcapping", "rope_scaling"})
HARMLESS_STARTS = ("_attn_implementation", "_name_or_path", "unsloth_")
HARMLESS_ENDS = ("_dropout", "_loss_coef")


def is_empty(value: Any) -> bool:
    """Null, false, or without contents."""
    return value is None or value is False or value in ("", [], {})


def is_off(value: Any) -> bool:
    """Null, false, zero, or empty."""
    return is_empty(value) or value == 0


def is_neutral(key: str, value: Any) -> bool:
    """Whether a key that no field takes can be passed over without a word."""
    if is_off(value) or key in HARMLESS or key in GENERATION:
        return True
    if value in NEUTRAL.get(key, ()):
        return True
    return key.startswith(HARMLESS_STARTS) or key.endswith(HARMLESS_ENDS)


def unknown_keys(
    values: Mapping[str, Any], known: Set[str], prefix: str = ""
) -> list[str]:
    """The keys that are not known and state something, with `prefix` before them."""
    rest = sorted(values.keys() - known)
    return [f"{prefix}{key}" for key in rest if not is_neutral(key, values[key])]


def not_obeyed(where: object, keys: Iterable[str]) -> str:
    """What the user is told of unknown keys; `where`: the file or section."""
    told = f"{where} states {', '.join(keys)}"
    return f"{told}, which this version does not know and does not obey."
