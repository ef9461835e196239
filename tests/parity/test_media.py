"""From files to logits as the reference: every budget, shape and length of media.

Configurations are drawn anew for every seed: `GEMMA4_SEED=1234 pytest -m reference`.
"""

import os
from pathlib import Path
from typing import Any

import golden
import layouts
import numpy as np
import pytest
import tiny
import tiny_media
from PIL import Image
from tiny_towers import AUDIO, SAMPLES, SQUARES, VISION

from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.config import FULL, SLIDING
from mlx_gemma4.prompt.attachments import IMAGE_TOKENS
from mlx_gemma4.prompt.processor import Processor

pytestmark = pytest.mark.reference

FIRST = int(os.environ.get("GEMMA4_SEED", "0"))
# Width and height: flat, wide, square, tall and thin pictures.
SHAPES = ((320, 20), (160, 90), (64, 64), (48, 100), (12, 500))
SMALL = (70, 140)
PATCHES = 3400  # places, for the thinnest picture at 1120 soft tokens
# Lengths in samples. ceil(ms / 40) would be one off for every second of them.
LENGTHS = (1600, 1601, 9_123, 16_000, 16_100, 31_999, 47_840, 47_841, 100_003)
TOWERS = {"clipped": "26B-A4B", "standardized": "31B"}
NAMES = [key for key, value in SAMPLES.items() if value == 40]
SECONDS = (0.1, 1.01, 29.99, 60.0)


def config_of(
    seed: int, family: str, vision: str, both_ways: bool, layers: int
) -> dict[str, Any]:
    """A random text model with random towers of `layers` layers.

    Few text layers, of both kinds: every one blurs float32 a little more.
    """
    config = tiny.random_config(seed, family)
    text, draw = config["text_config"], np.random.RandomState(seed)
    kinds = [SLIDING, FULL] * 2 if text["num_kv_shared_layers"] else [SLIDING, FULL]
    text |= {"layer_types": kinds, "num_hidden_layers": len(kinds)}
    text["num_kv_shared_layers"] = len(kinds) - 2
    text["use_bidirectional_attention"] = "vision" if both_ways else None
    heads, dim = int(draw.choice([1, 2])), int(draw.choice([8, 12]))
    config["vision_config"] = {
        **VISION[vision],
        **{"num_attention_heads": heads, "num_key_value_heads": heads},
        **{"head_dim": dim, "hidden_size": heads * dim, "num_hidden_layers": layers},
        **{"intermediate_size": 20, "position_embedding_size": PATCHES},
    }
    config["audio_config"] = {
        **AUDIO[str(draw.choice(list(AUDIO)))],
        **tiny_media.CHANNELS,
        **{"num_attention_heads": int(draw.choice([1, 2])), "num_hidden_layers": 2},
        "hidden_size": int(draw.choice([16, 24])),
    }
    return config


def picture(seed: int, width: int, height: int) -> dict[str, Any]:
    """Smooth colours with noise on them, as photographs are."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height)), np.int16)
    pixels = pixels + draw.integers(-20, 21, pixels.shape)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return {"type": "image", "image": image}


def video(seed: int, frames: int, width: int, height: int) -> dict[str, Any]:
    made = [picture(seed + i, width, height)["image"] for i in range(frames)]
    return {"type": "video", "video": made}


def sound(seed: int, samples: int) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    wave = np.sin(np.arange(samples) * draw.uniform(0.02, 0.6)) * draw.uniform(0.1, 0.8)
    wave += draw.standard_normal(samples) * 0.05
    return {"type": "audio", "audio": (wave.astype(np.float32), 16_000)}


def conversation(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    """The media with words before, between and behind them."""
    content: list[dict[str, Any]] = [{"type": "text", "text": "Look, or listen:"}]
    for part in parts:
        content += [part, {"type": "text", "text": "and"}]
    return [{"role": "user", "content": content}]


def check(
    folder: Path, config: dict[str, Any], seed: int, budget: int, *parts: Any
) -> None:
    """Checks ids, logits and likeliest tokens."""
    import torch_exact
    import torch_model
    import torch_processor

    messages = conversation(*parts)
    tiny.take_tokenizer(folder, config)
    layouts.save(folder, config, tiny_media.arrays(config, seed))
    model = load_model(folder)
    inputs = Processor.from_folder(folder, model.config)(messages, image_tokens=budget)
    theirs = torch_processor.prompt(folder, config, messages, budget)
    assert inputs.tokens[0].tolist() == theirs.tokens
    ours = np.array(model(inputs.tokens, media=inputs.media)[0])
    golden.check_exact(
        ours,
        torch_exact.both(
            config, seed, lambda m: torch_model.media_logits(m, config, theirs)
        ),
    )


def vision_cases() -> list[Any]:
    """All shapes at the small budgets, one shape each at the large ones."""
    cases = [(budget, shape) for budget in SMALL for shape in SHAPES]
    large = [b for b in IMAGE_TOKENS if b not in SMALL]
    return cases + [(b, SHAPES[(FIRST + i) % 5]) for i, b in enumerate(large)]


@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize(("budget", "shape"), vision_cases())
def test_a_picture(
    budget: int, shape: tuple[int, int], both_ways: bool, tmp_path: Path
) -> None:
    seed = FIRST + budget + shape[0]
    family, tower = ("E2B", "31B")[seed % 2], list(TOWERS)[(seed // 2) % 2]
    layers = 2 if budget in SMALL else 1  # ten thousand patches are many
    config = config_of(seed, family, tower, both_ways, layers)
    check(tmp_path, config, seed, budget, picture(seed, *shape))


@pytest.mark.parametrize("length", LENGTHS)
def test_a_recording(length: int, tmp_path: Path) -> None:
    seed = FIRST + length
    config = config_of(seed, "E2B", "clipped", False, 1)
    check(tmp_path, config, seed, 70, sound(seed, length))


@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("seed", range(FIRST, FIRST + 2))
def test_everything(tower: str, both_ways: bool, seed: int, tmp_path: Path) -> None:
    """Several pictures, recordings and videos, short ones before long ones too."""
    family = TOWERS[tower] if both_ways else ("E2B", "E4B")[seed % 2]
    config = config_of(seed, family, tower, both_ways, 2)
    parts = [
        *(picture(seed + i, *SHAPES[(seed + i) % 5]) for i in range(3)),
        *(sound(seed + i, LENGTHS[(seed + 3 * i) % 9]) for i in range(3)),
        *(video(seed + 9 * i, 2 + i, 64 + 40 * i, 48) for i in range(2)),
    ]
    order = np.random.RandomState(seed).permutation(len(parts))
    check(tmp_path, config, seed, 70, *(parts[i] for i in order))


def unified_of(seed: int) -> dict[str, Any]:
    """A random model without towers, whose pictures have as many places as 12B's."""
    config = tiny.random_config(seed, "12B")
    text, draw = config["text_config"], np.random.RandomState(seed)
    text |= {"layer_types": [SLIDING, FULL], "num_hidden_layers": 2}
    patch, width = int(draw.choice([2, 4])), int(draw.choice([16, 40]))
    config["vision_config"] = {
        **SQUARES,
        **{"patch_size": patch, "model_patch_size": 3 * patch},
        **{"mm_embed_dim": width, "output_proj_dims": width, "mm_posemb_size": 1120},
    }
    config["audio_config"] = dict(SAMPLES)
    return config


@pytest.mark.parametrize(("budget", "shape"), vision_cases())
def test_a_picture_without_a_tower(
    budget: int, shape: tuple[int, int], tmp_path: Path
) -> None:
    seed = FIRST + budget + shape[0]
    check(tmp_path, unified_of(seed), seed, budget, picture(seed, *shape))


@pytest.mark.parametrize("seconds", SECONDS)
def test_a_recording_without_a_tower(seconds: float, tmp_path: Path) -> None:
    seed, samples = FIRST + int(100 * seconds), int(16_000 * seconds)
    config = unified_of(seed)
    config["audio_config"] |= dict.fromkeys(NAMES, 640)
    check(tmp_path, config, seed, 70, sound(seed, samples))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + 2))
def test_everything_without_a_tower(seed: int, tmp_path: Path) -> None:
    parts = [
        *(picture(seed + i, *SHAPES[(seed + i) % 5]) for i in range(3)),
        *(sound(seed + i, LENGTHS[(seed + 3 * i) % 9]) for i in range(3)),
        *(video(seed + 9 * i, 2 + i, 64 + 40 * i, 48) for i in range(2)),
    ]
    order = np.random.RandomState(seed).permutation(len(parts))
    check(tmp_path, unified_of(seed), seed, 70, *(parts[i] for i in order))
