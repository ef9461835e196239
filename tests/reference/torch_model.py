"""The reference implementation, filled with the tiny checkpoints' random weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import tiny_media
import torch
from tiny_tensors import random_tensors, tensor_shapes
from transformers import (
    Gemma4Config,
    Gemma4ForCausalLM,
    Gemma4ForConditionalGeneration,
    Gemma4TextConfig,
    Gemma4UnifiedConfig,
    Gemma4UnifiedForConditionalGeneration,
)

# Values of mm_token_type_ids, as the reference's processor assigns them.
TYPES = {"image_token_id": 1, "video_token_id": 2, "audio_token_id": 3}


KINDS: dict[str, tuple[Any, Any]] = {
    "gemma4_text": (Gemma4TextConfig, Gemma4ForCausalLM),
    "gemma4": (Gemma4Config, Gemma4ForConditionalGeneration),
    "gemma4_unified": (Gemma4UnifiedConfig, Gemma4UnifiedForConditionalGeneration),
}


def own_name(config: Mapping[str, Any], name: str) -> str:
    """What the reference calls a tensor of the Hub's, or a module."""
    if config["model_type"] != "gemma4_unified":
        return name
    start = "model.embed_vision."
    name = name.replace(start, f"{start}multimodal_embedder.")
    return name.replace("model.vision_embedder.", start)


def build(config: Mapping[str, Any], seed: int) -> Any:
    """The reference model of a config.json dict, float32, plain attention."""
    settings, kind = KINDS[config["model_type"]]
    model = kind(plain(settings(**config)))
    whole = config.get("vision_config") or config.get("audio_config")
    tensors = (
        tiny_media.tensors(config, seed)
        if whole
        else random_tensors(tensor_shapes(config), seed)
    )
    state = {
        own_name(config, name): torch.from_numpy(np.array(tensor))
        for name, tensor in tensors.items()
    }
    missing, unexpected = model.load_state_dict(state, strict=False)
    tied = {"lm_head.weight"} if config["tie_word_embeddings"] else set()
    if set(missing) != tied or unexpected:
        raise ValueError(f"missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    return model.eval()


def plain(config: Any) -> Any:
    """With attention and experts in single steps."""
    for part in (config, config.get_text_config()):
        part._attn_implementation = "eager"
        part._experts_implementation = "eager"
    return config


def text_model(model: Any) -> Any:
    """The text decoder inside either kind of model."""
    inner = model.model
    return getattr(inner, "language_model", inner)


def shapes(config: Mapping[str, Any]) -> dict[str, list[int]]:
    """Name -> shape as the reference builds the checkpoint, tied head left out."""
    settings, kind = KINDS[config["model_type"]]
    with torch.device("meta"):
        model = kind(settings(**config))
    named = {name: list(t.shape) for name, t in model.state_dict().items()}
    if config["tie_word_embeddings"]:
        del named["lm_head.weight"]
    return named


def resaved(config: Mapping[str, Any]) -> str:
    """config.json as the reference writes it when it saves a loaded checkpoint."""
    settings, _ = KINDS[config["model_type"]]
    return settings(**config).to_json_string()


@torch.no_grad()
def logits(model: Any, tokens: list[int]) -> np.ndarray:
    """[L, vocab] logits of one text prompt in one pass."""
    return model(input_ids=torch.tensor([tokens])).logits[0].numpy()


@torch.no_grad()
def embedded_logits(
    model: Any, config: Mapping[str, Any], tokens: list[int], embeddings: np.ndarray
) -> np.ndarray:
    """[L, vocab] logits of a prompt whose media positions hold given embeddings.

    `embeddings` is [L, hidden], already scaled, as soft tokens arrive from a tower.
    """
    ids = torch.tensor([tokens])
    types = torch.zeros_like(ids)
    for key, value in TYPES.items():
        types[ids == config[key]] = value
    extra: dict[str, Any] = {}
    if config["text_config"]["hidden_size_per_layer_input"]:
        pad = config["text_config"]["pad_token_id"]
        plain = torch.where(types > 0, pad, ids)
        extra["per_layer_inputs"] = text_model(model).get_per_layer_inputs(plain)
    h = torch.from_numpy(embeddings)[None].to(torch.get_default_dtype())
    extra |= _masks(model, h, types)
    out = model(inputs_embeds=h, mm_token_type_ids=types, **extra)
    return out.logits[0].numpy()


@torch.no_grad()
def media_logits(
    model: Any, config: Mapping[str, Any], prompt: tiny_media.Prompt
) -> np.ndarray:
    """[L, vocab] logits of a prompt whose media are padded to one size per kind."""
    return read(model, config, prompt).logits[0].numpy()


@torch.no_grad()
def read(
    model: Any, config: Mapping[str, Any], prompt: tiny_media.Prompt, **wanted: bool
) -> Any:
    """What the reference returns of it, and of what is `wanted`."""
    ids = torch.tensor([prompt.tokens])
    types = torch.zeros_like(ids)
    for key, value in TYPES.items():
        types[ids == config[key]] = value
    inputs: dict[str, Any] = {}
    if prompt.pictures:
        inputs["pixel_values"], inputs["image_position_ids"] = _batch(prompt.pictures)
    if prompt.frames:
        pixels, positions = _batch(prompt.frames)
        inputs |= {"pixel_values_videos": pixels, "video_position_ids": positions}
        inputs["num_frames_per_video"] = torch.tensor([len(pixels)])
    if prompt.clips:
        inputs["input_features"], inputs["input_features_mask"] = _batch(prompt.clips)
    inputs |= _masks(model, model.get_input_embeddings()(ids), types)
    return model(input_ids=ids, mm_token_type_ids=types, **inputs, **wanted)


def _masks(model: Any, h: torch.Tensor, types: torch.Tensor) -> dict[str, Any]:
    """Where generate() makes others than forward() does: those of generate()."""
    if not isinstance(model, Gemma4UnifiedForConditionalGeneration):
        return {}
    masks = model.create_masks_for_generate(
        model.config, h, None, None, None, mm_token_type_ids=types
    )
    return {"attention_mask": masks}


def _batch(media: list[tiny_media.Pair]) -> tuple[torch.Tensor, torch.Tensor]:
    values, marks = (
        torch.from_numpy(np.stack(part)) for part in zip(*media, strict=True)
    )
    values = values.to(torch.get_default_dtype())
    return values, marks if marks.dtype == torch.bool else marks.long()


@contextmanager
def recorded(model: Any, names: list[str]) -> Iterator[dict[str, np.ndarray]]:
    """Inputs and outputs of the named text modules, filled while the model runs.

    `NAME.in` is the first argument, `NAME.out` (`.out0`, `.out1`, … of a tuple) the
    result; a batch of one is kept.
    """
    found: dict[str, np.ndarray] = {}
    modules = dict(text_model(model).named_modules())

    def hook(name: str) -> Any:
        def record(_: Any, args: Any, kwargs: Any, result: Any) -> None:
            first = args[0] if args else kwargs["hidden_states"]
            found[f"{name}.in"] = first.detach().numpy().copy()
            if isinstance(result, torch.Tensor):
                found[f"{name}.out"] = result.detach().numpy().copy()
                return
            for i, part in enumerate(result):
                if part is not None:
                    found[f"{name}.out{i}"] = part.detach().numpy().copy()

        return record

    handles = [
        modules[name].register_forward_hook(hook(name), with_kwargs=True)
        for name in names
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
