"""Tiny whole models that see and hear, and prompts with every kind of media."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import layouts
import mlx.core as mx
import numpy as np
import tiny
from tiny_towers import (
    AUDIO,
    BOUNDS,
    SAMPLES,
    SQUARES,
    VISION,
    audio_shapes,
    clip,
    embedder_shapes,
    picture,
    tower_tensors,
    vision_shapes,
)

from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.config import FULL, SLIDING
from mlx_gemma4.media import Media
from mlx_gemma4.model import Gemma4

Pair = tuple[np.ndarray, np.ndarray]
# The real number of mel bins: what log_mel makes fits.
CHANNELS = {"subsampling_conv_channels": [128, 8]}
PATCHES = 3 * 3  # of one soft token
LAYERS = {"num_hidden_layers": 2}  # of a tower


def config_dict(
    variant: str = "E2B",
    vision: str | None = "clipped",
    audio: str | None = "clipped",
    **text: Any,
) -> dict[str, Any]:
    """`tiny.config_dict` with named towers; `text` overrides text keys.

    Cut to few layers of each kind: every one blurs float32 a little more.
    """
    shared = tiny.config_dict(variant)["text_config"]["num_kv_shared_layers"]
    kinds = [SLIDING, FULL, SLIDING, FULL] if shared else [SLIDING, SLIDING, FULL]
    text |= {"layer_types": kinds, "num_hidden_layers": len(kinds)}
    text["num_kv_shared_layers"] = 2 if shared else 0
    if variant == "12B":
        senses = {"vision_config": SQUARES, "audio_config": SAMPLES}
        return {**tiny.config_dict(variant, **text), **senses}
    return {
        **tiny.config_dict(variant, **text),
        "vision_config": {**VISION[vision], **LAYERS} if vision else None,
        "audio_config": {**AUDIO[audio], **CHANNELS, **LAYERS} if audio else None,
    }


# Variant and towers: each shape of a tower, read causally and both ways.
MODELS = {
    "E2B": ("E2B", "clipped", "clipped"),
    "31B": ("31B", "standardized", None),
    "26B": ("26B-A4B", "standardized", "clipped"),
    "demo": ("demo", "clipped", "unclipped"),
    "12B": ("12B", None, None),
}


def tensors(config: Mapping[str, Any], seed: int) -> dict[str, np.ndarray]:
    """float32 values of every tensor, by Hub name."""
    found = tiny.random_tensors(tiny.tensor_shapes(config), seed)
    hidden = config["text_config"]["hidden_size"]
    if config["model_type"] == "gemma4_unified":
        return found | _embedders(config, hidden, seed)
    for part, key, shapes, width in (
        ("vision", "vision_config", vision_shapes, "hidden_size"),
        ("audio", "audio_config", audio_shapes, "output_proj_dims"),
    ):
        if tower := config[key]:
            for n, value in tower_tensors(shapes(tower), seed).items():
                # Wider bounds: hard cuts blur float32 in a whole model.
                wide = np.float32(2 if n.endswith(BOUNDS) else 1)
                found[f"model.{part}_tower.{n}"] = value * wide
            name = f"model.embed_{part}.embedding_projection.weight"
            # Soft tokens as large as the embeddings of text.
            found[name] = 3 * tiny.random_tensor(name, (hidden, tower[width]), seed)
    return found


def _embedders(
    config: Mapping[str, Any], hidden: int, seed: int
) -> dict[str, np.ndarray]:
    """What sees and hears without a tower."""
    found: dict[str, np.ndarray] = {}
    widths = {}
    if vision := config["vision_config"]:
        for n, value in tower_tensors(embedder_shapes(vision), seed).items():
            found[f"model.vision_embedder.{n}"] = value
        widths["vision"] = vision["mm_embed_dim"]
    if audio := config["audio_config"]:
        widths["audio"] = audio["audio_embed_dim"]
    for part, width in widths.items():
        name = f"model.embed_{part}.embedding_projection.weight"
        found[name] = 3 * tiny.random_tensor(name, (hidden, width), seed)
    return found


def arrays(config: Mapping[str, Any], seed: int) -> layouts.Tensors:
    return {name: mx.array(t) for name, t in tensors(config, seed).items()}


def build(folder: Path, config: Mapping[str, Any], seed: int) -> Gemma4:
    """The model, loaded strictly from a folder in the Hub's layout."""
    return load_model(layouts.save(folder, config, arrays(config, seed)))


def write_checkpoint(folder: Path, seed: int = 3, **options: Any) -> None:
    """A Hub folder with the demo's tokenizer, template and token ids."""
    config = config_dict(**options)
    folder.mkdir(parents=True, exist_ok=True)
    tiny.take_tokenizer(folder, config)
    layouts.save(folder, config, arrays(config, seed))
    settings = {
        "image_processor": {"max_soft_tokens": 12},
        "video_processor": {"max_soft_tokens": 6, "num_frames": 4},
    }
    (folder / "processor_config.json").write_text(json.dumps(settings))


@dataclass
class Prompt:
    """Token ids with placeholders, and the media they stand for, unpadded."""

    tokens: list[int] = field(default_factory=list)
    pictures: list[Pair] = field(default_factory=list)
    frames: list[Pair] = field(default_factory=list)
    clips: list[Pair] = field(default_factory=list)

    @property
    def media(self) -> Media:
        images, frames, audio = map(as_arrays, (self.pictures, self.frames, self.clips))
        return Media(images, frames, audio)

    @property
    def padded(self) -> "Prompt":
        """The same with all pictures, frames and clips as long as the longest."""
        pictures, frames, clips = self.pictures, self.frames, self.clips
        return Prompt(
            self.tokens, pad(pictures, -1), pad(frames, -1), pad(clips, False)
        )


def as_arrays(media: list[Pair]) -> list[tuple[mx.array, mx.array]]:
    return [(mx.array(values), mx.array(marks)) for values, marks in media]


def pad(media: list[Pair], mark: Any) -> list[Pair]:
    """To one length, and by one soft token more: not with zeros but marked so."""
    most = max((len(values) for values, _ in media), default=0) + PATCHES
    result = []
    for values, marks in media:
        end = ((0, most - len(values)), (0, 0))
        longer = np.pad(values, end, constant_values=0.5)
        flat = end[: marks.ndim]
        result.append((longer, np.pad(marks, flat, constant_values=mark)))
    return result


def prompt(config: Mapping[str, Any], seed: int) -> Prompt:
    """Two pictures, three frames, a short clip and then a long one, in any order."""
    draw = np.random.RandomState(seed)
    made = Prompt()
    sizes = {"image": [(3, 4), (2, 1)], "video": [(2, 2), (2, 2), (2, 2)]}
    if not config["vision_config"]:
        sizes = {}
    lengths = [30, 61] if config["audio_config"] else []
    kinds = [kind for kind, each in sizes.items() for _ in each]
    kinds += ["audio"] * len(lengths)
    for number, kind in enumerate(draw.permutation(kinds)):
        made.tokens += draw.randint(3, 80, draw.randint(1, 5)).tolist()
        if kind == "audio":
            _add_clip(made, config, lengths.pop(0), 10 * seed + number)
        else:
            _add_picture(made, config, kind, sizes[kind].pop(0), 10 * seed + number)
    made.tokens += draw.randint(3, 80, 5).tolist()
    return made


def _add_clip(made: Prompt, config: Mapping[str, Any], frames: int, seed: int) -> None:
    made.clips.append(
        (clip(config["audio_config"], frames, seed), np.ones(frames, bool))
    )
    tower = "subsampling_conv_channels" in config["audio_config"]
    count = -(-frames // 4) if tower else frames
    soft = [config["audio_token_id"]] * count
    made.tokens += [config["boa_token_id"], *soft, config["eoa_token_index"]]


def _add_picture(
    made: Prompt, config: Mapping[str, Any], kind: str, size: tuple[int, int], seed: int
) -> None:
    where = made.pictures if kind == "image" else made.frames
    where.append(picture(config["vision_config"], *size, seed))
    soft = [config[f"{kind}_token_id"]] * (size[0] * size[1])
    made.tokens += [config["boi_token_id"], *soft, config["eoi_token_id"]]
