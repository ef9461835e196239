"""What a tensor is called in the result, and which class it belongs to.

The result has the names that mlx-lm and mlx-vlm write and this project reads: the text
model under `language_model.model.`, experts split into gate, up and down under
`experts.switch_glu`, towers under their own names.
"""

import re

from mlx_gemma4.checkpoint.names import KEYS_VALUES, ROTARY, Place, place
from mlx_gemma4.config import Config
from mlx_gemma4.errors import CheckpointError

from . import plan

EXPERT = re.compile(r"(.*)\.experts\.(gate_up|down)_proj\.weight")
# First match decides; names as `place` gives them.
KINDS = (
    (r"(vision_tower|embed_vision|vision_embedder)\..*", plan.VISION),
    (r"(audio_tower|embed_audio)\..*", plan.AUDIO),
    (r"language_model\.embed_tokens\.weight", plan.EMBEDDING),
    (r"lm_head\.weight", plan.HEAD),
    (r"language_model\.embed_tokens_per_layer\.weight", plan.PLE_TABLE),
    (r".*\.per_layer_\w*(gate|projection)\.weight", plan.PLE_PROJECTION),
    (r".*\.self_attn\.[qkvo]_proj\.weight", plan.ATTENTION),
    (r".*\.mlp\.(gate|up|down)_proj\.weight", plan.MLP),
    (r".*\.experts\.(gate_up|down)_proj\.weight", plan.EXPERTS),
    (r".*\.router\.proj\.weight", plan.ROUTER),
    (r".*(norm\w*\.weight|layer_scalar|\.scale|per_expert_scale)", plan.NORM),
)


def kind(where: Place) -> str:
    """The class of a tensor. Raises CheckpointError if it is of none."""
    for pattern, found in KINDS:
        if re.fullmatch(pattern, where.parameter):
            return found
    raise CheckpointError(
        f"{where.parameter} is no part of Gemma 4 that is known here."
    )


def is_unused(where: Place, config: Config) -> bool:
    """Keys and values of KV-shared layers, and rotary frequencies."""
    match = KEYS_VALUES.fullmatch(where.parameter)
    if match is None:
        return ROTARY.fullmatch(where.parameter) is not None
    text = config.text_config
    return text.first_kv_shared_layer <= int(match[1]) < text.num_hidden_layers


def modules(where: Place, text_only: bool) -> tuple[str, ...]:
    """Paths in the result without `.weight`; bare tensors keep their whole name.

    text_only: the checkpoint is a `gemma4_text`, whose peers expect no outer prefix.
    """
    path = _prefixed(where.parameter)
    if text_only:
        path = path.removeprefix("language_model.")
    match = EXPERT.fullmatch(path)
    if match is None:
        return (path.removesuffix(".weight"),)
    start = f"{match[1]}.experts.switch_glu"
    if where.half is not None:
        return (f"{start}.{('gate', 'up')[where.half]}_proj",)
    if match[2] == "down":
        return (f"{start}.down_proj",)
    return f"{start}.gate_proj", f"{start}.up_proj"


def layer(module: str) -> int | None:
    """The decoder layer a module belongs to."""
    match = re.match(r"(?:language_model\.)?model\.layers\.(\d+)\.", module)
    return int(match[1]) if match else None


def located(name: str) -> Place:
    """`place`, refusing experts stored one by one, which are not joined here."""
    where = place(name)
    if where.expert is not None:
        raise CheckpointError(
            f"{name} is a single expert: join the experts into one tensor per layer, "
            "as Google's files have them."
        )
    return where


def _prefixed(parameter: str) -> str:
    if parameter.startswith("language_model."):
        return "language_model.model." + parameter.removeprefix("language_model.")
    if parameter.startswith("lm_head."):
        return "language_model." + parameter
    return parameter
