"""Names of tensors: this model's own, and those of each layout read or written.

`HUB`, `MLX` and `TEXT` are the one table of prefixes, in both directions. Experts have
a table of their own: fused as the Hub has them, split in two under `switch_glu` as
mlx-lm and mlx-vlm write them, or stored one by one, which is only read.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from ..config import AssistantConfig, Config

TOWERS = ("vision_tower.", "audio_tower.", "embed_vision.", "embed_audio.")
TOWERS += ("vision_embedder.",)  # in place of the first
# Prefixes of this model -> those of a layout; what is not named is the same there.
HUB = {
    "language_model.": "model.language_model.",
    **{tower: f"model.{tower}" for tower in TOWERS},
}
MLX = {  # mlx-lm and mlx-vlm; the head only where it is untied
    "language_model.": "language_model.model.",
    "lm_head.": "language_model.lm_head.",
}
TEXT = {"language_model.": "model."}  # a text model of its own, in either layout
# The other way round: the first that matches decides, so the longest comes first.
READ = sorted(
    ((theirs, ours) for table in (HUB, MLX, TEXT) for ours, theirs in table.items()),
    key=lambda pair: -len(pair[0]),
)
# What training puts around a model or a part of it, and a careless save leaves there:
# torch.compile, DataParallel, FSDP, activation checkpointing; and PEFT around a whole.
WRAPPER = re.compile(
    r"(?:(?<=\.)|^)"
    r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|module)\."
)
PEFT = "base_model.model."
# Applied in order to every name that is read.
RENAMES = (
    # Without towers, as the reference saves it: all that sees in one module.
    (r"^embed_vision\.multimodal_embedder\.", "embed_vision."),
    (r"^embed_vision\.(patch_|pos_)", r"vision_embedder.\1"),
    (r"^language_model\.lm_head\.", "lm_head."),
    # mlx-lm and mlx-vlm; `switch_mlp` in earlier conversions
    (r"\.(?:experts\.)?switch_(?:glu|mlp)\.", ".experts."),
    # The Hub's experts are parameters, not modules with a weight.
    (r"(\.experts\.(?:\d{1,9}\.)?(?:gate|up|gate_up|down)_proj)$", r"\1.weight"),
)
EXPERT_PIECE = re.compile(
    r"(.*\.experts\.)(?:(\d{1,9})\.)?(gate|up|gate_up|down)(_proj\..*)", re.DOTALL
)
ORDER = "masked_embedding.token_ordering"  # of a drafter: ids, in every layout
EXPERTS = re.compile(r"(.*\.experts\.)(gate_up|down)(_proj.*)", re.DOTALL)
# What a tower clips to; without end where it clips nothing.
BOUNDS = (".input_min", ".input_max", ".output_min", ".output_max")
HALVES = {"gate": 0, "up": 1}  # of gate_up_proj, along the outputs
ROTARY = re.compile(r".*\.rotary_emb(_\w+)?\.\w*inv_freq")
KEYS_VALUES = re.compile(
    r"language_model\.layers\.(\d{1,9})\.self_attn\.(k_proj|v_proj|k_norm|v_norm)\.\w+"
)
# Of the decoder alone, in our names and MLX's; towers have layers as well.
LAYER = re.compile(r"(?:language_model\.(?:model\.)?|model\.)layers\.(\d{1,9})\.(.+)")


@dataclass(frozen=True)
class Place:
    """Where a tensor belongs: a parameter, or one expert or one half of it."""

    parameter: str
    expert: int | None = None
    half: int | None = None

    @property
    def module(self) -> str:
        return self.parameter.rpartition(".")[0]

    def sibling(self, kind: str) -> "Place":
        """The same place in the module's `weight`, `scales` or `biases`."""
        return Place(f"{self.module}.{kind}", self.expert, self.half)

    def shape(self, whole: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of this piece of a parameter of shape `whole`."""
        if self.half is not None:
            whole = (*whole[:-2], whole[-2] // 2, whole[-1])
        return whole if self.expert is None else whole[1:]


def unwrapped(name: str) -> str:
    """A name without what training has put around the model or parts of it."""
    name = WRAPPER.sub("", name)
    while name.startswith(PEFT):
        name = name.removeprefix(PEFT)
    return name


@lru_cache(2**14)  # of one checkpoint; each name is asked for several times
def place(name: str) -> Place:
    """Where the tensor of this name belongs, in whatever layout it is written."""
    name = unwrapped(name)
    for theirs, ours in READ:
        if name.startswith(theirs):
            name = ours + name.removeprefix(theirs)
            break
    for pattern, ours in RENAMES:
        name = re.sub(pattern, ours, name)
    match = EXPERT_PIECE.fullmatch(name)
    if match is None:
        return Place(name)
    start, expert, projection, end = match.groups()
    half = HALVES.get(projection)
    whole = projection if half is None else "gate_up"
    return Place(start + whole + end, None if expert is None else int(expert), half)


def hub_name(name: str, text_only: bool) -> str:
    """The Hub's name of one of our parameters, or of a module.

    text_only: of a decoder alone, which has no other part than the decoder.
    """
    name = _prefixed(name, TEXT if text_only else HUB)
    return name.removesuffix(".weight") if EXPERTS.fullmatch(name) else name


def reference_name(module: str) -> str:
    """What the reference calls a module of ours in a model without towers, where all
    that sees is one module; the Hub's files do not say so."""
    module = re.sub(r"^embed_vision\.", "embed_vision.multimodal_embedder.", module)
    return re.sub(r"^vision_embedder\.", "embed_vision.", module)


def mlx_names(where: Place, text_only: bool) -> tuple[str, ...]:
    """What mlx-lm and mlx-vlm call a parameter, or a module: one name.

    Or two where it is gate and up in one, which they keep apart. text_only: as above.
    """
    name = _prefixed(where.parameter, TEXT if text_only else MLX)
    match = EXPERTS.fullmatch(name)
    if match is None:
        return (name,)
    start, projection, end = match.groups()
    parts = tuple(HALVES) if projection == "gate_up" else (projection,)
    if where.half is not None:
        parts = (parts[where.half],)
    return tuple(f"{start}switch_glu.{part}{end}" for part in parts)


def _prefixed(name: str, layout: dict[str, str]) -> str:
    for ours, theirs in layout.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def in_layer(name: str) -> tuple[int, str] | None:
    """The decoder layer that a name of ours or of MLX's belongs to, and the rest."""
    match = LAYER.fullmatch(name)
    return (int(match[1]), match[2]) if match else None


def is_unused(config: Config | AssistantConfig, parameter: str) -> bool:
    """Whether no layer reads it, though files carry it.

    So it is with keys and values of KV-shared layers, which Google's files have, and
    with rotary frequencies, which follow from the configuration.
    """
    match = KEYS_VALUES.fullmatch(parameter)
    if match is None:
        return ROTARY.fullmatch(parameter) is not None
    layer, text = int(match[1]), config.text_config
    return text.first_kv_shared_layer <= layer < text.num_hidden_layers
