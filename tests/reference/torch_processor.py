"""The reference's processor, less what needs torchvision.

Rendering, placeholders, pictures (its Pillow processor) and audio features are its own.
Only the frames of videos go through the picture processor here, at 70 soft tokens.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from tiny_media import Pair, Prompt
from transformers import (
    Gemma4AudioFeatureExtractor,
    Gemma4Processor,
    Gemma4UnifiedAudioFeatureExtractor,
    PreTrainedTokenizerFast,
)
from transformers.models.gemma4.image_processing_pil_gemma4 import (
    Gemma4ImageProcessorPil,
)
from transformers.models.gemma4_unified.processing_gemma4_unified import (
    Gemma4UnifiedProcessor,
)
from transformers.video_utils import VideoMetadata

RATE = 24  # frames a second, which the reference assumes of a list of pictures
TOKENS: Any = SimpleNamespace(
    **{"boi_token": "<|image>", "image_token": "<|image|>", "eoi_token": "<image|>"},
    **{"boa_token": "<|audio>", "audio_token": "<|audio|>", "eoa_token": "<audio|>"},
    video_token="<|video|>",
)


def prompt(
    folder: Path,
    config: Mapping[str, Any],
    messages: Sequence[Mapping[str, Any]],
    budget: int,
) -> Prompt:
    """Ids and media, padded to one size per kind, of messages whose media are Pillow
    pictures, lists of them, and `(samples, rate)`. `budget`: soft tokens a picture."""
    parts = [part for message in messages for part in message["content"]]
    media = {kind: [p[kind] for p in parts if kind in p] for kind in _KINDS}
    frames = [frame for clip in media["video"] for frame in clip]
    images, pictures = _pictures(config, media["image"], budget)
    videos, moving = _pictures(config, frames, 70)
    audio, clips = _clips(config, [samples for samples, _ in media["audio"]])
    firsts = np.cumsum([0, *map(len, media["video"])])[:-1]
    counts = videos.get("num_soft_tokens_per_image", ())
    videos = {
        "num_soft_tokens_per_video": [counts[i] for i in firsts],
        "video_metadata": [_metadata(len(clip)) for clip in media["video"]],
    }
    unified = config["model_type"] == "gemma4_unified"
    text = _written(
        folder,
        messages,
        {"image": images, "audio": audio, "video": videos},
        Gemma4UnifiedProcessor if unified else Gemma4Processor,
    )
    tokenizer = _tokenizer(folder)
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    return Prompt(tokens, pictures, moving, clips)


_KINDS = ("image", "audio", "video")


def _tokenizer(folder: Path) -> Any:
    file = str(folder / "tokenizer.json")
    return PreTrainedTokenizerFast(tokenizer_file=file, bos_token="<bos>")


def _written(
    folder: Path,
    messages: Sequence[Mapping[str, Any]],
    media: Mapping[str, Mapping[str, Any]],
    processor: Any,
) -> str:
    """The rendered prompt with every mark replaced by the reference's placeholders."""
    text = _tokenizer(folder).apply_chat_template(
        messages,
        chat_template=(folder / "chat_template.jinja").read_text(),
        add_generation_prompt=True,
        tokenize=False,
    )
    seen: dict[str, int] = dict.fromkeys(_KINDS, 0)

    def placeholders(match: re.Match[str]) -> str:
        kind, number = match[1], seen[match[1]]
        seen[kind] += 1
        write = getattr(processor, f"replace_{kind}_token")
        return write(TOKENS, dict(media[kind]), number)

    return re.sub(r"<\|(image|audio|video)\|>", placeholders, text)


def _pictures(
    config: Mapping[str, Any], images: list[Any], budget: int
) -> tuple[Mapping[str, Any], list[Pair]]:
    if not images:
        return {}, []
    vision = config["vision_config"]
    sizes = {key: vision[key] for key in ("patch_size", "pooling_kernel_size")}
    if side := vision.get("model_patch_size"):  # which its processor cuts, too
        sizes = {"patch_size": side, "pooling_kernel_size": 1}
    out: Any = Gemma4ImageProcessorPil(max_soft_tokens=budget, **sizes)(images)
    pixels = [np.asarray(p, np.float32) for p in out["pixel_values"]]
    return out, list(zip(pixels, out["image_position_ids"], strict=True))


def _clips(
    config: Mapping[str, Any], sounds: list[np.ndarray]
) -> tuple[Mapping[str, Any], list[Pair]]:
    if not sounds:
        return {}, []
    if config["model_type"] == "gemma4_unified":
        size = config["audio_config"]["audio_embed_dim"]
        extractor: Any = Gemma4UnifiedAudioFeatureExtractor(size, 16_000, 0.0, size)
    else:
        extractor = Gemma4AudioFeatureExtractor()
    out = extractor(sounds, return_tensors="np")
    features, masks = out["input_features"], out["input_features_mask"]
    return out, list(zip(features, masks, strict=True))


def _metadata(frames: int) -> Any:
    made: Any = VideoMetadata(frames, float(RATE))
    made.frames_indices = np.arange(frames)
    return made
