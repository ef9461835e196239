"""Writes tests/fixtures from the reference implementation.

    PYTHONPATH=tests/support python tests/reference/make_fixtures.py

Needs the extra `reference`. The weights are not stored: tests draw the same ones from
tiny_tensors. Running it again gives the same files, up to rounding in the last digit.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import real
import torch
import torch_model
from tiny_configs import IMAGE, VARIANTS, VIDEO, config_dict
from tiny_tensors import random_tensor, random_tokens
from transformers import Gemma4Config
from transformers.models.gemma4.modeling_gemma4 import (
    Gemma4TextRotaryEmbedding,
    apply_rotary_pos_emb,
)

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
SEED = 20
PROMPTS = (5, 33)
# Variant -> layers recorded in full: a sliding and a full layer with keys of their
# own, and, where there are any, KV-shared layers of both kinds with their sources.
LAYERS = {
    "E2B": (0, 3, 4, 5, 9),
    "26B-A4B": (0, 5),
    "31B": (0, 5),
    "demo": (1, 2, 3, 5),
}
# [text, image block longer than the window, text, image and video touching, text]
MEDIA = [*[7, 8, 9], *[IMAGE] * 13, 10, 11, *[IMAGE] * 3, *[VIDEO] * 4, *range(12, 24)]


def whole_models() -> dict[str, np.ndarray]:
    """Logits of every variant at every prompt length."""
    found: dict[str, np.ndarray] = {}
    for variant in VARIANTS:
        model = torch_model.build(config_dict(variant), SEED)
        for length in PROMPTS:
            tokens = random_tokens(length, SEED + length)
            found[f"{variant}.{length}"] = torch_model.logits(model, tokens)
    return found


def media_models() -> dict[str, np.ndarray]:
    """Logits of prompts with soft tokens: bidirectional blocks, causal, and PLE."""
    found: dict[str, np.ndarray] = {"tokens": np.array(MEDIA)}
    for variant in ("E2B", "26B-A4B", "31B"):
        config = config_dict(variant)
        model = torch_model.build(config, SEED)
        embeddings = media_embeddings(model, variant)
        found[f"{variant}.embeddings"] = embeddings
        found[f"{variant}.logits"] = torch_model.embedded_logits(
            model, config, MEDIA, embeddings
        )
    return found


@torch.no_grad()
def media_embeddings(model: Any, variant: str) -> np.ndarray:
    """[L, hidden]: scaled token embeddings, random rows at the media positions."""
    table = torch_model.text_model(model).embed_tokens
    embeddings = table(torch.tensor(MEDIA)).numpy()
    media = np.isin(MEDIA, (IMAGE, VIDEO))
    soft = 3.0 * random_tensor("soft_tokens", embeddings.shape, SEED) * 32**0.5
    return np.where(media[:, None], soft, embeddings).astype(np.float32)


def blocks(variant: str) -> dict[str, np.ndarray]:
    """Inputs and outputs of single blocks inside one 33-token run."""
    config = config_dict(variant)
    model = torch_model.build(config, SEED)
    text = config["text_config"]
    names: list[str] = []
    for i in LAYERS[variant]:
        names += [f"layers.{i}", f"layers.{i}.self_attn", f"layers.{i}.mlp"]
        if text["enable_moe_block"]:
            names += [f"layers.{i}.router", f"layers.{i}.experts"]
    tokens = random_tokens(max(PROMPTS), SEED + max(PROMPTS))
    with torch_model.recorded(model, names) as found:
        torch_model.logits(model, tokens)
    # The weights of attention are no output of ours.
    kept = {n: a for n, a in found.items() if not n.endswith("self_attn.out1")}
    if text["hidden_size_per_layer_input"]:
        kept["per_layer_inputs"] = per_layer_inputs(model, tokens)
    return kept


@torch.no_grad()
def per_layer_inputs(model: Any, tokens: list[int]) -> np.ndarray:
    """[L, layers, width]: what each layer receives beside its hidden state."""
    text, ids = torch_model.text_model(model), torch.tensor([tokens])
    lookup = text.get_per_layer_inputs(ids)
    return text.project_per_layer_inputs(text.embed_tokens(ids), lookup)[0].numpy()


def ropes() -> dict[str, np.ndarray]:
    """Rotated heads [1, H, L, D] for both kinds, tiny and real head sizes."""
    found: dict[str, np.ndarray] = {}
    for head_dim, global_head_dim in ((16, 32), (256, 512)):
        sizes = {"head_dim": head_dim, "global_head_dim": global_head_dim}
        config: Any = Gemma4Config(**config_dict("31B", **sizes)).text_config
        rotary = Gemma4TextRotaryEmbedding(config)
        sides = {"sliding_attention": head_dim, "full_attention": global_head_dim}
        for kind, size in sides.items():
            x = torch.from_numpy(random_tensor("rope", (1, 2, 6, size), SEED))
            for offset in (0, 1000):
                cos, sin = rotary(x, torch.arange(6)[None] + offset, kind)
                rotated = apply_rotary_pos_emb(x, cos, sin)
                found[f"{kind}.{size}.{offset}"] = rotated.numpy()
    return found


def tiny_shapes() -> dict[str, dict[str, list[int]]]:
    return {v: torch_model.shapes(config_dict(v)) for v in VARIANTS}


def resaved() -> None:
    """The real configurations as the reference writes them when it re-saves."""
    for name in real.MODELS:
        text = torch_model.resaved(real.read(name))
        (FIXTURES / "resaved" / f"{name}.json").write_text(text)


def save(name: str, arrays: dict[str, np.ndarray]) -> None:
    np.savez_compressed(FIXTURES / f"{name}.npz", allow_pickle=False, **arrays)


def main() -> None:
    torch.set_num_threads(1)
    save("logits", whole_models())
    save("media", media_models())
    save("rope", ropes())
    for variant in LAYERS:
        save(f"blocks-{variant}", blocks(variant))
    shapes = json.dumps(tiny_shapes(), separators=(",", ":"))
    (FIXTURES / "tiny_shapes.json").write_text(shapes)
    resaved()


if __name__ == "__main__":
    main()
