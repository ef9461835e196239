"""Which keys of config.json change nothing about what a model computes.

Configuration files come from Google, from several releases of transformers, from
converters and from trainers, and each adds keys of its own. What matters is whether a
key could change a computation: one that is off, or that is known to say nothing about
it, is passed over; what is left is told to the user.
"""

from typing import Any

# Bookkeeping, and the settings of training, of sampling and of other programs.
# (Sampling settings are read from generation_config.json; mlx-vlm copies them here.)
HARMLESS = frozenset(
    {
        "architectures",
        "attention_invalid_logits_value",  # beyond the mask: vanishes in the softmax
        "attn_implementation",
        "auto_map",
        "bos_token_id",  # the tokenizer has it
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
        "transformers_version",
        "use_cache",
    }
)
# Other models compute with these; Gemma 4 does not, and what states them is none.
UNSUPPORTED = frozenset({"attn_logit_softcapping", "rope_scaling"})
HARMLESS_STARTS = ("_attn_implementation", "_name_or_path", "unsloth_")
HARMLESS_ENDS = ("_dropout", "_loss_coef")


def is_neutral(key: str, value: Any) -> bool:
    """Whether a key that no field takes can be passed over without a word."""
    if value is None or value is False or value in (0, "", [], {}):
        return True
    if key in HARMLESS:
        return True
    return key.startswith(HARMLESS_STARTS) or key.endswith(HARMLESS_ENDS)
