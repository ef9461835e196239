"""The reference with adapters, as parametrisations of its weights, and gradients."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tiny_media
import torch
from torch.nn.utils import parametrize
from torch_model import TYPES, _batch, _masks, build, own_name

Arrays = Mapping[str, np.ndarray]


class LowRank(torch.nn.Module):
    """W -> W + scale (A B)ᵀ, and with `m` each row then at that norm."""

    def __init__(self, values: Arrays, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.values = torch.nn.ParameterDict(
            {leaf: torch.nn.Parameter(torch.tensor(v)) for leaf, v in values.items()}
        )

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        a, b = self.values["lora_a"], self.values["lora_b"]
        if weight.ndim == 3:
            return weight + self.scale * b @ a
        weight = weight + self.scale * (a @ b).T
        if "m" not in self.values:
            return weight
        norm = weight.norm(dim=1, keepdim=True).detach()
        return self.values["m"][:, None] / norm * weight


def adapted(
    config: Mapping[str, Any], seed: int, adapter: Mapping[str, Arrays], scale: float
) -> tuple[Any, dict[str, torch.Tensor]]:
    """The reference model, and its learned tensors by our names."""
    model = build(config, seed)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    modules = dict(model.named_modules())
    learned: dict[str, torch.Tensor] = {}
    for path, values in adapter.items():
        hub = own_name(config, f"model.{path}")
        module, name = modules.get(hub), "weight"
        if ".experts." in path:
            hub, _, name = hub.rpartition(".")
            module = modules[hub]
        assert module is not None, hub
        low = LowRank(values, scale)
        parametrize.register_parametrization(module, name, low, unsafe=True)
        learned |= {f"{path}.{leaf}": v for leaf, v in low.values.items()}
    return model, learned


def opened(
    config: Mapping[str, Any], seed: int, names: Sequence[str]
) -> tuple[Any, dict[str, torch.Tensor]]:
    """The reference model with whole parameters learned, by our names."""
    model = build(config, seed)
    own = dict(model.named_parameters())
    for parameter in own.values():
        parameter.requires_grad_(False)
    learned = {}
    for name in names:
        hub = f"model.{name}"
        if hub not in own:
            hub = hub.removesuffix(".weight")
        learned[name] = own[hub].requires_grad_(True)
    return model, learned


def gradients(
    model: Any,
    config: Mapping[str, Any],
    learned: Mapping[str, torch.Tensor],
    rows: Sequence[tuple[tiny_media.Prompt, Sequence[int]]],
) -> tuple[float, dict[str, np.ndarray]]:
    """Summed loss of the targets at the given positions of every row, and gradients."""
    total = torch.zeros(())
    for prompt, positions in rows:
        inputs = _inputs(config, prompt)
        h = model.get_input_embeddings()(inputs["input_ids"])
        inputs |= _masks(model, h, inputs["mm_token_type_ids"])
        logits = model(**inputs).logits[0].float()
        wanted = torch.tensor([prompt.tokens[i] for i in positions])
        before = torch.tensor(list(positions)) - 1
        total = total + torch.nn.functional.cross_entropy(
            logits[before], wanted, reduction="sum"
        )
    total.backward()
    return total.item(), {
        name: np.zeros(value.shape, np.float32)
        if value.grad is None
        else value.grad.numpy()
        for name, value in learned.items()
    }


def _inputs(config: Mapping[str, Any], prompt: tiny_media.Prompt) -> dict[str, Any]:
    ids = torch.tensor([prompt.tokens])
    inputs: dict[str, Any] = {"input_ids": ids}
    types = torch.zeros_like(ids)
    for key, value in TYPES.items():
        types[ids == config[key]] = value
    inputs["mm_token_type_ids"] = types
    padded = prompt.padded
    if prompt.pictures:
        pixels, positions = _batch(padded.pictures)
        inputs |= {"pixel_values": pixels, "image_position_ids": positions}
    if prompt.frames:
        pixels, positions = _batch(padded.frames)
        inputs |= {"pixel_values_videos": pixels, "video_position_ids": positions}
        inputs["num_frames_per_video"] = torch.tensor([len(pixels)])
    if prompt.clips:
        features, mask = _batch(padded.clips)
        inputs |= {"input_features": features, "input_features_mask": mask}
    return inputs
