"""Packed QAT checkpoints of the real size, as headers composed from the plain ones'.

Google publishes none of their configurations but that of 12B-it-qat-w4a16-ct, and a
part of E2B's mobile one; names and counts are those that users report.
"""

import re
from typing import Any

import real
from real import Header

COMPRESSED = "google/gemma-4-12B-it-qat-w4a16-ct"
MOBILE = "google/gemma-4-E2B-it-qat-mobile-transformers"
BOUNDS = re.compile(r".*\.(in|out)put_(min|max)")
LINEAR = re.compile(r"model\.(language_model\.layers|vision_tower|audio_tower)\..*")
# Of mobile files: all that modules_to_not_convert names.
UNPACKED = re.compile(
    r".*(patch_embedder|subsample_conv_projection|audio_tower\.output_proj"
    r"|relative_k_proj|embed_audio|embed_vision|per_layer_model_projection)\b.*"
)
BLOCK = 128  # inputs that share a step in the per-layer table


def compressed(name: str) -> tuple[dict[str, Any], dict[str, Header]]:
    """config.json and headers of w4a16-ct: the decoder's matrices in groups of 32.

    The tied head is stored as well, unpacked.
    """
    config = real.read(name)
    config["quantization_config"] = real.read(COMPRESSED)["quantization_config"]
    headers: dict[str, Header] = {}
    for key, (dtype, shape) in real.tensors(name).items():
        module, _, kind = key.rpartition(".")
        decoder = key.startswith("model.language_model.") and "embed" not in key
        if not (decoder and kind == "weight" and len(shape) == 2):
            headers[key] = dtype, shape
            continue
        rows, inputs = shape
        headers[f"{module}.weight_packed"] = "I32", (rows, inputs // 8)
        headers[f"{module}.weight_scale"] = "BF16", (rows, inputs // 32)
        headers[f"{module}.weight_shape"] = "I64", (2,)
    headers["lm_head.weight"] = headers["model.language_model.embed_tokens.weight"]
    return config, headers


def mobile(name: str, clipped: bool) -> tuple[dict[str, Any], dict[str, Header]]:
    """config.json and headers of mobile-transformers, which hold no bounds.

    clipped: what config.json says of the towers all the same.
    """
    config = real.read(name)
    quantization = real.read(MOBILE, "quantization_config.part.json")
    config |= {"quantization_config": quantization, "tie_word_embeddings": False}
    for tower in ("vision_config", "audio_config"):
        config[tower]["use_clipped_linears"] = clipped
    text, headers = config["text_config"], dict[str, Header]()
    used = real.used_shapes(name)
    for key, (dtype, shape) in real.tensors(name).items():
        module, _, kind = key.rpartition(".")
        if BOUNDS.fullmatch(key) or (
            kind == "weight" and "k_norm" in key and key not in used
        ):
            continue
        matrix = kind == "weight" and len(shape) == 2
        if ".embed_tokens" in key:
            headers |= _table(module, shape)
        elif matrix and LINEAR.fullmatch(key) and not UNPACKED.fullmatch(key):
            headers |= _linear(module, shape, _bits(module, quantization))
        else:
            headers[key] = dtype, shape
    head = (text["vocab_size"], text["hidden_size"])
    headers |= _linear("lm_head", head, 2)
    for layer in range(text["num_hidden_layers"]):
        attention = f"model.language_model.layers.{layer}.self_attn"
        headers |= {f"{attention}.{n}_cache_scale": ("F32", ()) for n in "kv"}
    return config, headers


def _bits(module: str, quantization: dict[str, Any]) -> int:
    patterns = quantization["module_quant_configs"].items()
    found = (options for pattern, options in patterns if re.search(pattern, module))
    return next(found, quantization)["num_bits"]


def _packed(shape: tuple[int, ...], bits: int) -> Header:
    kind = "I8" if bits == 8 else "U8"
    return kind, (shape[0], shape[1] * bits // 8)


def _linear(module: str, shape: tuple[int, ...], bits: int) -> dict[str, Header]:
    scalars = (f"{module}.{end}put_activation_scale" for end in ("in", "out"))
    return {
        f"{module}.weight": _packed(shape, bits),
        f"{module}.weight_scale": ("F32", (shape[0], 1)),
        **dict.fromkeys(scalars, ("F32", ())),
    }


def _table(module: str, shape: tuple[int, ...]) -> dict[str, Header]:
    wide = module.endswith("per_layer")
    return {
        f"{module}.embedding_quantized": _packed(shape, 4 if wide else 2),
        f"{module}.embedding_scale": (
            "F32",
            (shape[0], shape[1] // BLOCK if wide else 1),
        ),
    }
