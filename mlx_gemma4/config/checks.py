"""Types and bounds of the values in config.json. Every error names key and value."""

import math
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from ..errors import CheckpointError
from ..reading.section import shown
from .fields import (
    FULL,
    SLIDING,
    AtLeast,
    AudioConfig,
    RopeParameters,
    TextConfig,
    VisionConfig,
)

MAX_INT = 2**31 - 1  # what MLX can count along one axis
ROPE_TYPES = ("default", "proportional")
NAMES = {NoneType: "null", bool: "true or false", str: "text", float: "a number"}


def check_types(cls: type, values: Mapping[str, Any], where: str) -> None:
    """Compare JSON values with the annotations of a dataclass. Raises CheckpointError.

    An int may stand for a float; a bool is neither, and no float is infinite.
    """
    hints = get_type_hints(cls, include_extras=True)
    stated = [(key, value) for key, value in values.items() if key in hints]
    wrong = [
        f"{key} is {shown(value)}, not {_described(hints[key])}"
        for key, value in stated
        if not _fits(value, hints[key])
    ]
    refuse(where, wrong)
    bounds = ((key, value, _bound(hints[key])) for key, value in stated)
    refuse(where, (_beyond(*each) for each in bounds if _is_beyond(*each[1:])))


def refuse(where: str, problems: Iterable[str]) -> None:
    """Raise CheckpointError if there is any problem."""
    if text := "; ".join(problems):
        raise CheckpointError(f"{where} in config.json: {text}.")


def _plain(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _choices(hint: Any) -> tuple[Any, ...]:
    """The types of `A | B`, or the one type."""
    return get_args(hint) if get_origin(hint) in (UnionType, Union) else (hint,)


def _bound(hint: Any) -> AtLeast | None:
    annotated = (part for part in _choices(hint) if get_origin(part) is Annotated)
    return next((get_args(part)[1] for part in annotated), None)


def _is_beyond(value: Any, bound: AtLeast | None) -> bool:
    if bound is None or value is None:
        return False
    return value <= bound.value if bound.above else value < bound.value


def _beyond(key: str, value: Any, bound: AtLeast | None) -> str:
    assert bound is not None
    least = f"above {bound.value}" if bound.above else f"{bound.value} or more"
    return f"{key} is {value}, but must be {least}"


def _fits(value: Any, hint: Any) -> bool:
    if len(choices := _choices(hint)) > 1:
        return any(_fits(value, part) for part in choices)
    hint = _plain(hint)
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        return isinstance(value, tuple) and all(_fits(each, item) for each in value)
    if hint is int:
        return type(value) is int and abs(value) <= MAX_INT
    if hint is float:
        if type(value) is int:
            return abs(value) <= 2**63
        return type(value) is float and math.isfinite(value)
    return isinstance(value, get_origin(hint) or hint)


def _described(hint: Any) -> str:
    if len(choices := _choices(hint)) > 1:
        return " or ".join(_described(part) for part in choices)
    hint = _plain(hint)
    if get_origin(hint) is tuple:
        return f"a list, each {_described(get_args(hint)[0])}"
    if hint is int:
        return f"a whole number up to {MAX_INT}"
    return NAMES.get(hint, "an object")


def _indivisible(config: object, key: str, divisor: str) -> list[str]:
    value, by = getattr(config, key), getattr(config, divisor)
    if not by or value % by == 0:
        return []
    return [f"{key} {value} is not a multiple of {divisor} {by}"]


def check_rope(rope: RopeParameters, where: str) -> None:
    """Raises CheckpointError."""
    problems = []
    if rope.rope_type not in ROPE_TYPES:
        problems.append(f"rope_type {shown(rope.rope_type)} is unknown")
    if (share := rope.partial_rotary_factor) > 1:
        problems.append(f"partial_rotary_factor is {share}, but must be in (0, 1]")
    refuse(where, problems)


def check_text(config: TextConfig) -> None:
    """What must agree. Raises CheckpointError."""
    sizes, kinds = _text_sizes(config), _text_kinds(config)
    refuse("text_config", [*sizes, *_own_layers(config), *_text_ids(config)])
    refuse("text_config", [*kinds, *_own_kinds(config), *_text_experts(config)])


def check_drafting(config: TextConfig) -> None:
    """The same of a drafter, no layer of which has keys and values of its own, nor
    anything else that only some models have. Raises CheckpointError."""
    refuse("text_config", [*_text_sizes(config), *_text_ids(config)])
    problems = _text_kinds(config)
    absent = ("hidden_size_per_layer_input", "enable_moe_block", "use_double_wide_mlp")
    for key in absent:
        if value := getattr(config, key):
            problems.append(f"{key} is {shown(value)}, which no drafter has")
    shared, layers = config.num_kv_shared_layers, config.num_hidden_layers
    if shared != layers:
        problems.append(
            f"num_kv_shared_layers is {shared}, but all {layers} layers of a drafter "
            "read keys and values of the model"
        )
    if not config.tie_word_embeddings:
        problems.append("tie_word_embeddings is false, but no drafter has a lm_head")
    refuse("text_config", problems)


def _text_sizes(config: TextConfig) -> list[str]:
    problems = []
    if config.hidden_size_per_layer_input and not config.vocab_size_per_layer_input:
        problems.append("vocab_size_per_layer_input is missing")
    for key in ("head_dim", "global_head_dim"):
        if getattr(config, key) % 2:
            problems.append(f"{key} is {getattr(config, key)}, but must be even")
    counts = ["num_key_value_heads"]
    if config.attention_k_eq_v:
        counts.append("num_global_key_value_heads")
    for key in counts:
        problems += _indivisible(config, "num_attention_heads", key)
    return problems


def _own_layers(config: TextConfig) -> list[str]:
    shared, layers = config.num_kv_shared_layers, config.num_hidden_layers
    if shared < layers:
        return []
    return [
        f"num_kv_shared_layers is {shared}; of {layers} layers at least one must not "
        "be KV-shared"
    ]


def _text_ids(config: TextConfig) -> list[str]:
    pad, rows = config.pad_token_id, config.token_rows
    ids = [("pad_token_id", pad)]
    ids += [("eos_token_id", token) for token in config.eos_token_id]
    problems = beyond_vocabulary(ids, config.vocab_size)
    if not problems and pad >= rows:
        problems.append(
            f"pad_token_id {pad} has no row where vocab_size_per_layer_input is {rows}"
        )
    return problems


def beyond_vocabulary(
    ids: Iterable[tuple[str, int | None]], vocab_size: int
) -> list[str]:
    """A problem for each id, with its key, that no row of the embeddings stands for."""
    return [
        f"{key} {token} is not in the vocabulary of {vocab_size}"
        for key, token in ids
        if token is not None and not 0 <= token < vocab_size
    ]


def _text_kinds(config: TextConfig) -> list[str]:
    problems = []
    if config.hidden_activation != "gelu_pytorch_tanh":
        problems.append(f"hidden_activation {config.hidden_activation!r} is unknown")
    if config.use_bidirectional_attention not in (None, "vision"):
        problems.append(
            f"use_bidirectional_attention {config.use_bidirectional_attention!r} is "
            "not that of a generating model"
        )
    if len(config.layer_types) != config.num_hidden_layers:
        problems.append(
            f"num_hidden_layers is {config.num_hidden_layers}, but layer_types names "
            f"{len(config.layer_types)}"
        )
    if unknown := set(config.layer_types) - {SLIDING, FULL}:
        problems.append(f"unknown layer_types {shown(sorted(unknown))}")
    elif config.layer_types[-1:] == (SLIDING,):
        problems.append(f"layer_types ends in {SLIDING}; the last layer is always full")
    kinds = set(config.layer_types)
    for kind in sorted(kinds - set(config.rope_parameters)):
        problems.append(f"rope_parameters has no entry for {kind}")
    return problems


def _own_kinds(config: TextConfig) -> list[str]:
    own = set(config.layer_types[: config.first_kv_shared_layer])
    if set(config.layer_types) - own:
        return ["a KV-shared layer has no earlier layer of its kind"]
    if FULL not in own:
        return [f"layer_types has no {FULL} with keys and values of its own"]
    return []


def _text_experts(config: TextConfig) -> list[str]:
    if not config.enable_moe_block:
        return []
    experts, top = config.num_experts, config.top_k_experts
    if not (experts and top and config.moe_intermediate_size):
        return [
            "enable_moe_block without num_experts, top_k_experts or "
            "moe_intermediate_size"
        ]
    if top > experts:
        return [f"top_k_experts is {top}, but num_experts is {experts}"]
    return []


def check_vision(config: VisionConfig) -> None:
    """Raises CheckpointError."""
    problems = _indivisible(config, "num_attention_heads", "num_key_value_heads")
    if config.head_dim % 4:  # halves of it turn by x and y, in pairs
        problems.append(f"head_dim is {config.head_dim}, but must be a multiple of 4")
    if config.hidden_activation != "gelu_pytorch_tanh":
        problems.append(f"hidden_activation {config.hidden_activation!r} is unknown")
    if config.attention_bias:
        problems.append("attention_bias is true, which no Gemma 4 tower has")
    refuse("vision_config", problems)


def check_audio(config: AudioConfig) -> None:
    """Raises CheckpointError."""
    problems = _indivisible(config, "hidden_size", "num_attention_heads")
    if config.hidden_act != "silu":
        problems.append(f"hidden_act {config.hidden_act!r} is unknown")
    channels = config.subsampling_conv_channels
    if len(channels) != 2 or min(channels) < 1:
        problems.append(
            f"subsampling_conv_channels is {shown(list(channels))}, but must be two "
            "numbers of 1 or more"
        )
    refuse("audio_config", problems)
