"""The layouts Google stores trained codes in: joined from their parts, kept exactly."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from trained import COMPRESSED

from mlx_gemma4.checkpoint.files import StoredTensor
from mlx_gemma4.checkpoint.packing import Packing
from mlx_gemma4.convert import qat
from mlx_gemma4.convert.plan import Joined
from mlx_gemma4.errors import CheckpointError

MOBILE = {
    "quant_method": "gemma",
    "num_bits": 4,
    "quantize_embeddings": True,
    "module_quant_configs": {
        "^lm_head$": {"num_bits": 2},
        r"layers\.\d+\.mlp\.": {"num_bits": 2},
        "vision_tower|per_layer_input_gate": {"num_bits": 8},
    },
}
TEXT = "model.language_model"
Q = f"{TEXT}.layers.3.self_attn.q_proj"


def sources(**tensors: tuple[str, tuple[int, ...]]) -> dict[str, StoredTensor]:
    file = Path("model.safetensors")
    return {name: StoredTensor(name, file, *stated) for name, stated in tensors.items()}


def joined(
    layout: str, quantization: dict[str, Any], **tensors: tuple[str, tuple[int, ...]]
) -> tuple[dict[str, Joined], list[str]]:
    """Joined weights by name, and the names of what was dropped."""
    config = {"quantization_config": quantization}
    found, dropped = qat.join(sources(**tensors), layout, config)
    return {item.name: item for item in found}, [item.source.name for item in dropped]


@pytest.mark.parametrize(
    ("name", "quantization", "dtype", "layout"),
    [
        ("google/gemma-4-E2B-it-qat-q4_0-unquantized", None, "BF16", qat.Q4_0),
        ("/models/gemma-4-E2B-it-QAT-Q4_0-unquantized", None, "BF16", qat.Q4_0),
        ("google/gemma-4-E2B-it-qat-q4_0-unquantized", None, "U32", None),
        ("google/gemma-4-E2B-it", None, "BF16", None),
        ("renamed", COMPRESSED, "I32", qat.COMPRESSED),
        ("renamed", MOBILE, "U8", qat.MOBILE),
    ],
)
def test_layouts_are_recognised(
    name: str, quantization: Any, dtype: str, layout: str | None
) -> None:
    tensors = sources(**{f"{Q}.weight": (dtype, (4, 8))})
    config = {"quantization_config": quantization} if quantization else {}
    assert qat.recognise(tensors, config, name) == layout


@pytest.mark.parametrize("layout", [qat.COMPRESSED, qat.MOBILE])
def test_parameters_whose_names_end_like_parts_stay(layout: str) -> None:
    names = (
        "model.audio_tower.layers.0.self_attn.per_dim_scale",
        "model.vision_tower.std_scale",
        f"{TEXT}.layers.0.router.per_expert_scale",
        f"{TEXT}.layers.0.router.scale",
    )
    stated = COMPRESSED if layout == qat.COMPRESSED else MOBILE
    found, dropped = joined(layout, stated, **dict.fromkeys(names, ("BF16", (4,))))
    assert tuple(found) == names and not dropped


def test_compressed_weights_are_joined() -> None:
    found, dropped = joined(
        qat.COMPRESSED,
        COMPRESSED,
        **{
            f"{Q}.weight_packed": ("I32", (6, 24)),
            f"{Q}.weight_scale": ("BF16", (6, 6)),
            f"{Q}.weight_shape": ("I64", (2,)),
            f"{TEXT}.norm.weight": ("BF16", (6,)),
        },
    )
    weight = found.pop(f"{Q}.weight")
    assert tuple(weight.sources) == ("weight_packed", "weight_scale")
    assert weight.shape == (6, 192) and weight.grid == qat.COMPRESSED
    assert weight.packing == Packing(4, 32, "affine")
    norm = found.pop(f"{TEXT}.norm.weight")
    assert ([*norm.sources], norm.packing, norm.grid) == (["weight"], None, None)
    assert not found and dropped == [f"{Q}.weight_shape"]


@pytest.mark.parametrize(
    "tensors",
    [
        {"weight_packed": ("I32", (6, 24))},
        {"weight_packed": ("I32", (6, 24)), "weight_scale": ("BF16", (6, 7))},
        {"weight_packed": ("I32", (6, 24)), "weight_scale": ("BF16", (5, 6))},
        {"weight_packed": ("U8", (6, 24)), "weight_scale": ("BF16", (6, 6))},
        {"weight_scale": ("BF16", (6, 6))},
        {"weight_zero_point": ("I32", (6, 6))},
        {"weight_g_idx": ("I32", (192,))},
    ],
)
def test_compressed_parts_that_do_not_fit_are_refused(
    tensors: dict[str, tuple[str, tuple[int, ...]]],
) -> None:
    parts = {f"{Q}.{part}": stated for part, stated in tensors.items()}
    with pytest.raises(CheckpointError, match="q_proj.weight_"):
        joined(qat.COMPRESSED, COMPRESSED, **parts)


def test_compressed_codes_stay_as_they_are() -> None:
    random = np.random.default_rng(0)
    code = random.integers(-8, 8, (4, 96))
    words = ((code.reshape(4, 12, 8) + 8) << np.arange(0, 32, 4)).sum(-1)
    packed = mx.array(words.astype(np.uint32)).view(mx.int32)
    scales = mx.array(random.standard_normal((4, 3)), mx.bfloat16)
    found = qat.encode(
        {"weight_packed": packed, "weight_scale": scales},
        Packing(4, 32, "affine"),
        qat.COMPRESSED,
        mx.bfloat16,
    )
    parts = found.codes._asdict()
    assert found.exact == found.groups == 12
    floats = [parts[part].astype(mx.float32) for part in ("scales", "biases")]
    back = mx.dequantize(parts["weight"], floats[0], floats[1], 32, 4)
    step = np.repeat(np.array(scales.astype(mx.float32)), 32, -1)
    assert (np.array(back) == code * step).all()


def test_mobile_weights_are_joined() -> None:
    layer, table = f"{TEXT}.layers.3", f"{TEXT}.embed_tokens_per_layer"
    gate = f"{layer}.per_layer_input_gate"
    found, dropped = joined(
        qat.MOBILE,
        MOBILE,
        **{
            f"{Q}.weight": ("U8", (8, 96)),
            f"{Q}.weight_scale": ("F32", (8, 1)),
            f"{Q}.input_activation_scale": ("F32", ()),
            f"{Q}.output_activation_scale": ("F32", ()),
            f"{layer}.self_attn.k_cache_scale": ("F32", ()),
            f"{layer}.mlp.up_proj.weight": ("U8", (8, 48)),
            f"{layer}.mlp.up_proj.weight_scale": ("F32", (8, 1)),
            f"{gate}.weight": ("I8", (8, 192)),
            f"{gate}.weight_scale": ("F32", (8, 1)),
            f"{table}.embedding_quantized": ("U8", (9, 160)),
            f"{table}.embedding_scale": ("F32", (9, 10)),
            "lm_head.weight": ("U8", (9, 48)),
            "lm_head.weight_scale": ("F32", (9, 1)),
            "model.vision_tower.a.linear.weight": ("I8", (8, 36)),
            "model.vision_tower.a.linear.weight_scale": ("F32", (8, 1)),
            "model.vision_tower.a.input_min": ("BF16", ()),
            f"{TEXT}.norm.weight": ("BF16", (192,)),
        },
    )
    assert {name: (w.packing, w.shape, w.grid) for name, w in found.items()} == {
        f"{Q}.weight": (Packing(4, 64, "affine"), (8, 192), qat.MOBILE),
        f"{layer}.mlp.up_proj.weight": (Packing(2, 64, "affine"), (8, 192), qat.MOBILE),
        f"{gate}.weight": (Packing(8, 64, "affine"), (8, 192), qat.MOBILE),
        f"{table}.weight": (Packing(4, 32, "affine"), (9, 320), qat.MOBILE),
        "lm_head.weight": (Packing(2, 64, "affine"), (9, 192), qat.MOBILE),
        "model.vision_tower.a.linear.weight": (None, (8, 36), qat.MOBILE),
        "model.vision_tower.a.input_min": (None, (), None),
        f"{TEXT}.norm.weight": (None, (192,), None),
    }
    assert [*found[f"{Q}.weight"].sources] == ["weight", "weight_scale"]
    assert sorted(name.rpartition(".")[2] for name in dropped) == [
        "input_activation_scale",
        "k_cache_scale",
        "output_activation_scale",
    ]


@pytest.mark.parametrize(
    ("dtype", "shape", "scales"),
    [
        ("I8", (6, 128), (6, 1)),  # stated as 4 bits
        ("U8", (6, 128), (5, 1)),
        ("U8", (6, 128), (6, 3)),
        ("U8", (6, 128), (6, 16)),  # 16 to a step
        ("U8", (6, 128), (6,)),
    ],
)
def test_misshapen_mobile_weights_are_refused(
    dtype: str, shape: tuple[int, ...], scales: tuple[int, ...]
) -> None:
    parts = {f"{Q}.weight": (dtype, shape), f"{Q}.weight_scale": ("F32", scales)}
    with pytest.raises(CheckpointError, match=r"q_proj\.weight.*4 bits"):
        joined(qat.MOBILE, MOBILE, **parts)


@pytest.mark.parametrize("part", ["weight", "rqv2_muls", "embedding_quantized"])
def test_mobile_tensors_that_are_not_understood_are_refused(part: str) -> None:
    with pytest.raises(CheckpointError, match=f"q_proj.{part}"):
        joined(qat.MOBILE, MOBILE, **{f"{Q}.{part}": ("U8", (6, 128))})
