"""The reference's towers alone, filled with the tiny towers' random weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from tiny_towers import (
    audio_shapes,
    clip,
    picture,
    tower_tensors,
    vision_shapes,
)
from transformers.models.gemma4.configuration_gemma4 import (
    Gemma4AudioConfig,
    Gemma4VisionConfig,
)
from transformers.models.gemma4.modeling_gemma4 import (
    Gemma4AudioModel,
    Gemma4VisionModel,
)


def vision_tower(config: Mapping[str, Any], seed: int) -> Any:
    """The reference's vision tower, float32, plain attention."""
    made = Gemma4VisionConfig(**config)
    return _filled(Gemma4VisionModel, made, vision_shapes(config), seed)


def audio_tower(config: Mapping[str, Any], seed: int) -> Any:
    """The reference's audio tower, float32."""
    made = Gemma4AudioConfig(**config)
    return _filled(Gemma4AudioModel, made, audio_shapes(config), seed)


def _filled(
    kind: Any, config: Any, shapes: Mapping[str, tuple[int, ...]], seed: int
) -> Any:
    config._attn_implementation = "eager"
    model = kind(config)
    tensors = tower_tensors(shapes, seed)
    state = {name: torch.from_numpy(np.array(t)) for name, t in tensors.items()}
    model.load_state_dict(state, strict=True)
    return model.eval()


@torch.no_grad()
def seen(
    config: Mapping[str, Any], pictures: Sequence[tuple[int, int]], seed: int
) -> list[np.ndarray]:
    """Soft tokens [S, hidden] of each picture, read in one padded batch."""
    most = max(rows * columns for rows, columns in pictures) + 1
    padded = [
        picture(config, rows, columns, seed, padding=most - rows * columns)
        for rows, columns in pictures
    ]
    pixels = torch.from_numpy(np.stack([pixels for pixels, _ in padded]))
    where = torch.from_numpy(np.stack([where for _, where in padded])).long()
    out = vision_tower(config, seed)(pixels, where).last_hidden_state.numpy()
    ends = np.cumsum([rows * columns for rows, columns in pictures])
    return np.split(out, ends[:-1])


@torch.no_grad()
def heard(
    config: Mapping[str, Any], clips: Sequence[int], seed: int
) -> list[np.ndarray]:
    """Soft tokens [S, output] of each clip, read in one padded batch."""
    features = [clip(config, frames, seed) for frames in clips]
    most = max(clips) + 7
    batch = np.stack([_padded(f, most) for f in features])
    mask = np.arange(most)[None] < np.array(clips)[:, None]
    out = audio_tower(config, seed)(torch.from_numpy(batch), torch.from_numpy(mask))
    return [
        states[real].numpy()
        for states, real in zip(
            out.last_hidden_state, out.attention_mask.bool(), strict=True
        )
    ]


def _padded(features: np.ndarray, frames: int) -> np.ndarray:
    # Not with zeros: what stands behind the end must not matter.
    end = ((0, frames - len(features)), (0, 0))
    return np.pad(features, end, constant_values=9.0)
