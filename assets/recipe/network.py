"""The reference implementation's model: initialisation, saving, loading.

The initialisation decides how fast so small a model learns. The usual one (standard
deviation 0.02, every norm 1) suits a large residual stream; here it starts with
attention logits of spread sqrt(head_dim) and embeddings drowned by the first layers.
Instead: fan-in scaled matrices, q and k norms that give logits of spread 1, and
damped norms on what is added to the residual stream.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4TextConfig,
    Gemma4VisionModel,
)
from transformers.models.gemma4.modeling_gemma4 import Gemma4ClippableLinear

RESIDUAL_NORM = 0.4
AUDIO_RESIDUAL_NORM = 0.8  # the conformer halves two of its four branches itself
BRANCH_NORMS = (
    "post_attention_layernorm.weight",
    "post_feedforward_layernorm.weight",
    "post_per_layer_input_norm.weight",
)
AUDIO_BRANCH_NORMS = ("norm_post_attn.weight", "post_layer_norm.weight")
BOUNDS = ("input_min", "input_max", "output_min", "output_max")
PARTS = ("text", "vision", "audio")
MARGIN = 1.25  # of the clip bounds over what was seen


def build(folder: Path) -> Gemma4ForConditionalGeneration:
    """The model of `folder`/config.json in float32, not yet initialised."""
    stated = json.loads((folder / "config.json").read_text())
    # Each part is built in its own type, and constants rounded then stay rounded.
    for part in (stated, *(stated[f"{kind}_config"] for kind in PARTS)):
        part["dtype"] = "float32"
    config = Gemma4Config.from_dict(stated)
    model = Gemma4ForConditionalGeneration(config).float()
    # Grouped experts run in one call, and fused attention is the fastest on a CPU.
    model.set_experts_implementation("grouped_mm")
    model.model.language_model.set_attn_implementation("sdpa")
    vision_tower(model).set_attn_implementation("sdpa")
    return model


def vision_tower(model: Gemma4ForConditionalGeneration) -> Gemma4VisionModel:
    """The vision tower, which this model always has."""
    tower = model.get_submodule("model.vision_tower")
    assert isinstance(tower, Gemma4VisionModel)
    return tower


def text_config(model: Gemma4ForConditionalGeneration) -> Gemma4TextConfig:
    """The text part of the model's configuration."""
    config = model.config.text_config
    if not isinstance(config, Gemma4TextConfig):
        raise TypeError(f"text_config is {type(config).__name__}")
    return config


@torch.no_grad()
def initialise(model: Gemma4ForConditionalGeneration) -> None:
    """Fill every parameter in place; torch's global generator is used."""
    per_layer_width = text_config(model).hidden_size_per_layer_input
    for name, p in model.named_parameters():
        if name.endswith("embed_tokens_per_layer.weight"):
            p.normal_(0, per_layer_width**-0.5)
        elif name.endswith(("q_norm.weight", "k_norm.weight")):
            p.fill_(p.shape[0] ** -0.25)
        elif name.endswith(BRANCH_NORMS):
            p.fill_(RESIDUAL_NORM)
        elif name.endswith(AUDIO_BRANCH_NORMS):
            p.fill_(AUDIO_RESIDUAL_NORM)
        elif name.endswith("position_embedding_table"):
            p.zero_()  # places that no picture of the training reaches stay empty
        elif "conv" in name and p.ndim >= 3:
            p.normal_(0, p[0].numel() ** -0.5)
        elif p.ndim >= 2 and "router" not in name:
            p.normal_(0, p.shape[-1] ** -0.5)


def clamp(module: nn.Module, on: bool) -> None:
    """Switch the clip bounds: they cost time in training and cut nothing."""
    for part in module.modules():
        if isinstance(part, Gemma4ClippableLinear):
            part.use_clipped_linears = on


@contextmanager
def calibrated(module: nn.Module) -> Iterator[None]:
    """Set the clip bounds from what passes through while the context is open."""
    parts = [p for p in module.modules() if isinstance(p, Gemma4ClippableLinear)]
    seen: dict[nn.Module, list[float]] = {part: [0.0] * 4 for part in parts}

    def watch(part: nn.Module, args: tuple[torch.Tensor, ...], out: torch.Tensor):
        low, high, out_low, out_high = seen[part]
        seen[part] = [
            min(low, args[0].min().item()),
            max(high, args[0].max().item()),
            min(out_low, out.min().item()),
            max(out_high, out.max().item()),
        ]

    hooks = [part.register_forward_hook(watch) for part in parts]
    clamp(module, False)
    yield
    clamp(module, True)
    for hook in hooks:
        hook.remove()
    for part, values in seen.items():
        for name, value in zip(BOUNDS, values, strict=True):
            part.get_buffer(name).fill_(MARGIN * value)


def target_logits(
    model: Gemma4ForConditionalGeneration,
    inputs: torch.Tensor,
    mask: torch.Tensor,
    wanted: torch.Tensor,
    media: Mapping[str, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Logits [N, V] of the N positions marked in `wanted` [B, L].

    media: pixels and frames under the names that the reference's model gives them.
    The head is a quarter of the work at this size, and most positions are prompt.
    """
    hidden = model.model(
        input_ids=inputs, attention_mask=mask, use_cache=False, **(media or {})
    ).last_hidden_state
    cap = text_config(model).final_logit_softcapping
    if cap is None:
        raise ValueError("the demo has a soft cap; config.json states none")
    return cap * torch.tanh(model.lm_head(hidden[wanted]) / cap)


def save(model: nn.Module, folder: Path) -> None:
    """Write `folder`/model.safetensors in bfloat16 under the Hub's names.

    The tied head is left out, as the Hub leaves it out. The reference builds no
    keys and values in layers that share them, so there are none to write.
    """
    tensors = {
        name: value.detach().to(torch.bfloat16).contiguous()
        for name, value in model.state_dict().items()
        if name != "lm_head.weight"
    }
    path = folder / "model.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # the library creates it for its owner alone


def load(folder: Path) -> Gemma4ForConditionalGeneration:
    """The checkpoint in `folder`, computed in float32."""
    model = build(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.language_model.embed_tokens.weight"]
    model.load_state_dict(tensors, strict=True)
    return model.eval()
