"""Mobile weights: their bits, and their values as the reference unpacks them."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_gemma4.checkpoint.packing import Packing
from mlx_gemma4.convert import qat
from mlx_gemma4.convert.mobile import widths
from mlx_gemma4.errors import CheckpointError


@pytest.mark.parametrize(
    "patterns", [[], {"(": {"num_bits": 4}}, {"a": 4}, {"a": {"num_bits": 4, "b": 1}}]
)
def test_patterns_that_cannot_be_read_are_refused(patterns: Any) -> None:
    stated = {"quant_method": "gemma", "module_quant_configs": patterns or [1]}
    with pytest.raises(CheckpointError, match="module_quant_configs"):
        qat.recognise({}, {"quantization_config": stated}, "")


def test_mobile_bits_that_do_not_exist_are_refused() -> None:
    with pytest.raises(CheckpointError, match="q_proj 3 bits"):
        widths({"num_bits": 3}).of("q_proj")


def test_unknown_keys_are_listed() -> None:
    stated = {"quant_method": "gemma", "trick": 1, "other": None}
    assert qat.unknown_keys(stated) == ["trick"]


def mobile(bits: int, blocks: int = 1) -> tuple[dict[str, mx.array], np.ndarray]:
    """Parts of weights [6, 256], and the plain float32 weights."""
    random = np.random.default_rng(bits)
    half = 1 << (bits - 1)
    code = random.integers(-half, half, (6, 256))
    step = random.uniform(0.01, 0.02, (6, blocks)).astype(np.float32)
    if bits == 8:
        packed = code.astype(np.int8)
    else:
        parts = (code + half).reshape(6, -1, 8 // bits) << np.arange(0, 8, bits)
        packed = parts.sum(-1).astype(np.uint8)
    parts = {"weight": mx.array(packed), "weight_scale": mx.array(step)}
    return parts, code.astype(np.float32) * np.repeat(step, 256 // blocks, -1)


@pytest.mark.parametrize("blocks", [1, 4])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_mobile_weights_keep_their_grid(bits: int, blocks: int) -> None:
    parts, wanted = mobile(bits, blocks)
    packing = Packing(bits, 64, "affine")
    found = qat.encode(parts, packing, qat.MOBILE, mx.float32)
    made = found.codes._asdict()
    assert found.exact == found.groups == 6 * 4
    back = mx.dequantize(made["weight"], made["scales"], made["biases"], 64, bits)
    assert np.abs(np.array(back) - wanted).max() <= 2**-22 * np.abs(wanted).max()
    assert (np.array(qat.decode(parts, 256, mx.float32)) == wanted).all()


def test_mobile_steps_are_rounded_as_the_reference_rounds_them() -> None:
    parts, _ = mobile(4)
    packing = Packing(4, 128, "affine")
    made = qat.encode(parts, packing, qat.MOBILE, mx.bfloat16).codes._asdict()
    steps = parts["weight_scale"].astype(mx.bfloat16)
    assert mx.array_equal(made["scales"], mx.concatenate([steps, steps], -1))
    assert mx.array_equal(made["biases"], made["scales"] * -8)


@pytest.mark.reference
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_mobile_weights_are_what_the_reference_reads(bits: int, dtype: str) -> None:
    import torch
    from transformers.integrations.gemma_quant import QuantizedLinear

    parts, _ = mobile(bits)
    linear = QuantizedLinear(256, 6, num_bits=bits)
    linear.weight.data = torch.from_numpy(np.array(parts["weight"]))
    linear.weight_scale.data = torch.from_numpy(np.array(parts["weight_scale"]))
    wanted = linear._dequantize_weights(getattr(torch, dtype)).detach().float().numpy()
    found = qat.decode(parts, 256, getattr(mx, dtype)).astype(mx.float32)
    assert (np.array(found) == wanted).all()


@pytest.mark.reference
@pytest.mark.parametrize("blocks", [1, 4])
def test_a_mobile_table_is_what_the_reference_reads(blocks: int) -> None:
    """In bfloat16, unpacked from MLX's packing."""
    import torch
    from transformers.integrations.gemma_quant import QuantizedEmbedding

    parts, _ = mobile(4, blocks)
    table = QuantizedEmbedding(6, 256, torch.bfloat16, num_bits=4)
    table.embedding_quantized.data = torch.from_numpy(np.array(parts["weight"]))
    table.embedding_scale.data = torch.from_numpy(np.array(parts["weight_scale"]))
    made = qat.encode(parts, Packing(4, 64, "affine"), qat.MOBILE, mx.bfloat16).codes
    scales, biases = (array.astype(mx.float32) for array in made[1:])
    found = mx.dequantize(made.weight, scales, biases, 64, 4).astype(mx.bfloat16)
    wanted = table.weight.detach().float().numpy()
    assert (np.array(found.astype(mx.float32)) == wanted).all()


@pytest.mark.reference
def test_bits_are_those_the_reference_takes() -> None:
    """Where patterns overlap, the match that begins first decides."""
    import torch
    from transformers.integrations.gemma_quant import replace_with_quant_layers
    from transformers.utils.quantization_config import GemmaQuantizationConfig

    patterns = {r"up\.": {"num_bits": 8}, r"layers\.0": {"num_bits": 2}, "^head$": {}}
    stated = {"num_bits": 4, "module_quant_configs": patterns}
    names = ("layers.0.up.one", "layers.1.up.one", "head", "other")
    model = torch.nn.Module()
    for name in names:
        module, parts = model, name.split(".")
        for part in parts[:-1]:
            if not hasattr(module, part):
                module.add_module(part, torch.nn.Module())
            module = module.get_submodule(part)
        module.add_module(parts[-1], torch.nn.Linear(8, 8))
    replace_with_quant_layers(model, GemmaQuantizationConfig(**stated))
    wanted = [model.get_submodule(name).num_bits for name in names]
    assert [widths(stated).of(name) for name in names] == wanted == [2, 8, 4, 4]
