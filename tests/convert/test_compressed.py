"""What a compressed-tensors configuration may say: what is obeyed, refused, or idle."""

from typing import Any

import pytest

from mlx_gemma4.convert import qat
from mlx_gemma4.errors import CheckpointError

COMPRESSED = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "input_activations": None,
            "weights": {
                "num_bits": 4,
                "type": "int",
                "symmetric": True,
                "strategy": "group",
                "group_size": 32,
                "actorder": None,
            },
        }
    },
}


def change(path: str, value: Any) -> dict[str, Any]:
    """COMPRESSED with one key changed, of the top, of the scheme or of its weights."""
    scheme = COMPRESSED["config_groups"]["group_0"]
    if path in COMPRESSED or path in TOP:
        return COMPRESSED | {path: value}
    if path in scheme or path in SCHEME:
        scheme = scheme | {path: value}
    else:
        scheme = scheme | {"weights": scheme["weights"] | {path: value}}
    return COMPRESSED | {"config_groups": {"group_0": scheme}}


TOP = ("kv_cache_scheme", "sparsity_config", "transform_config", "moe_sparsity_config")
TOP += ("ignore", "version", "quantization_status", "global_compression_ratio")
SCHEME = ("output_activations", "targets")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("num_bits", 8),
        ("num_bits", None),  # the library's default is 8
        ("type", "float"),
        ("symmetric", False),
        ("strategy", "channel"),
        ("group_size", 48),
        ("group_size", -1),
        ("actorder", "group"),
        ("actorder", True),
        ("dynamic", True),
        ("input_activations", "int8"),
        ("output_activations", [8]),
        ("kv_cache_scheme", 8),
        ("sparsity_config", {"format": "sparse-24-bitmask"}),
        ("transform_config", {"config_groups": {"R1": {"type": "hadamard"}}}),
        ("moe_sparsity_config", {"method": "prune"}),
    ],
)
def test_another_compressed_layout_is_refused(path: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=f"{path} .*unquantised original"):
        qat.recognise({}, {"quantization_config": change(path, value)}, "")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("group_size", 128),
        ("strategy", None),  # follows from group_size
        ("type", None),
        ("actorder", "weight"),
        ("actorder", "static"),
        ("actorder", False),
        ("dynamic", None),
        ("observer", "mse"),
        ("observer_kwargs", {"maxshrink": 0.2}),
        ("scale_dtype", "torch.bfloat16"),
        ("zp_dtype", "torch.int8"),
        ("new_thing", None),
        ("input_activations", None),
        ("output_activations", None),
        ("targets", ["re:.*layers.*proj$"]),
        ("ignore", ["lm_head", "re:.*vision_tower.*"]),
        ("version", "0.9.0"),
        ("quantization_status", "frozen"),
        ("global_compression_ratio", 3.2),
        ("kv_cache_scheme", None),
        ("sparsity_config", {}),
        ("sparsity_config", {"format": "dense", "global_sparsity": 0.1}),
        ("transform_config", {"config_groups": {}}),
    ],
)
def test_what_changes_nothing_is_passed_over(path: str, value: Any) -> None:
    stated = change(path, value)
    assert qat.recognise({}, {"quantization_config": stated}, "") == qat.COMPRESSED
    assert qat.unknown_keys(stated) == []
    assert not qat.rounds(stated)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("input_activations", {"num_bits": 8, "dynamic": True}),
        ("output_activations", {"num_bits": 8}),
        ("kv_cache_scheme", {"num_bits": 8, "type": "float"}),
    ],
)
def test_what_is_rounded_beside_weights_is_said(path: str, value: Any) -> None:
    stated = change(path, value)
    assert qat.recognise({}, {"quantization_config": stated}, "") == qat.COMPRESSED
    assert qat.unknown_keys(stated) == [] and qat.rounds(stated)


def test_unknown_keys_of_a_packed_layout_are_listed() -> None:
    found = qat.unknown_keys(change("new_thing", 3) | {"trick": "on"})
    assert found == ["trick", "config_groups.group_0.weights.new_thing"]


def test_groups_may_differ_and_have_formats_of_their_own() -> None:
    scheme = COMPRESSED["config_groups"]["group_0"]
    wide = scheme | {"weights": scheme["weights"] | {"group_size": 128}}
    groups = {
        "group_0": scheme | {"format": "pack-quantized"},
        "group_1": wide | {"format": None},
        "kept": {"targets": ["Embedding"], "weights": None},
        "W4A16": ["Linear"],
    }
    for layout in ("pack-quantized", "mixed-precision"):
        stated = COMPRESSED | {"format": layout, "config_groups": groups}
        assert qat.unknown_keys(stated) == []
    groups["group_1"] = wide | {"format": "nvfp4-pack-quantized"}
    with pytest.raises(CheckpointError, match="nvfp4-pack-quantized"):
        qat.unknown_keys(COMPRESSED | {"config_groups": groups})


@pytest.mark.parametrize("missing", ["format", "config_groups"])
def test_another_container_is_refused(missing: str) -> None:
    stated = {k: v for k, v in COMPRESSED.items() if k != missing}
    with pytest.raises(CheckpointError, match="pack-quantized|config_groups"):
        qat.recognise({}, {"quantization_config": stated}, "")


@pytest.mark.parametrize("value", [[], "all", {"group_0": 4}, {"W8A8": ["Linear"]}])
def test_groups_of_another_kind_are_refused(value: Any) -> None:
    stated = COMPRESSED | {"config_groups": value}
    with pytest.raises(CheckpointError, match="config_groups"):
        qat.recognise({}, {"quantization_config": stated}, "")
