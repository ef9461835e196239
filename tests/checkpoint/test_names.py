"""The name table and the plan, on names and shapes alone."""

from pathlib import Path
from typing import Any

import pytest
import real
import tiny
from mlx.utils import tree_flatten

from mlx_gemma4.checkpoint.files import StoredTensor
from mlx_gemma4.checkpoint.fit import Fit, fit_weights
from mlx_gemma4.checkpoint.names import Place, hub_name, mlx_names, place
from mlx_gemma4.config import Config
from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.model import Gemma4

FILE = Path("model.safetensors")
LAYER = "language_model.layers.0"
Q = f"{LAYER}.self_attn.q_proj"
GATE_UP = f"{LAYER}.experts.gate_up_proj"
HALF = f"model.{LAYER}.experts.switch_glu."


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("model.language_model.layers.0.self_attn.q_proj.weight", f"{Q}.weight"),
        ("language_model.model.layers.0.self_attn.q_proj.scales", f"{Q}.scales"),
        ("model.layers.0.self_attn.q_proj.biases", f"{Q}.biases"),
        ("language_model.layers.0.self_attn.q_proj.weight", f"{Q}.weight"),
        ("model.language_model.norm.weight", "language_model.norm.weight"),
        ("model.norm.weight", "language_model.norm.weight"),
        ("lm_head.weight", "lm_head.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("model.embed_tokens.weight", "language_model.embed_tokens.weight"),
        ("model.vision_tower.std_bias", "vision_tower.std_bias"),
        ("vision_tower.std_bias", "vision_tower.std_bias"),
        ("model.embed_audio.x.weight", "embed_audio.x.weight"),
        ("model.vision_embedder.pos_embedding", "vision_embedder.pos_embedding"),
        ("model.embed_vision.pos_norm.bias", "vision_embedder.pos_norm.bias"),
        ("model.embed_vision.patch_ln1.bias", "vision_embedder.patch_ln1.bias"),
        (
            "model.embed_vision.multimodal_embedder.embedding_projection.weight",
            "embed_vision.embedding_projection.weight",
        ),
        ("model.language_model.layers.0.layer_scalar", f"{LAYER}.layer_scalar"),
    ],
)
def test_names_of_whole_parameters(name: str, ours: str) -> None:
    assert place(name) == Place(ours)


@pytest.mark.parametrize(
    ("name", "expert", "half"),
    [
        ("model.language_model.layers.0.experts.gate_up_proj", None, None),
        ("language_model.layers.0.experts.gate_up_proj.weight", None, None),
        ("language_model.model.layers.0.experts.gate_up_proj.weight", None, None),
        *(
            (f"{start}.{projection}_proj{end}", None, half)
            for half, projection in enumerate(("gate", "up"))
            for start, end in (
                ("language_model.model.layers.0.experts.switch_glu", ".weight"),
                ("language_model.model.layers.0.experts.switch_mlp", ".weight"),
                ("language_model.model.layers.0.switch_mlp", ".weight"),
                ("model.layers.0.switch_glu", ".weight"),
                ("model.layers.0.experts", ""),
                ("model.language_model.layers.0.experts", ".weight"),
            )
        ),
        ("model.language_model.layers.0.experts.7.up_proj.weight", 7, 1),
        ("model.language_model.layers.0.experts.12.gate_up_proj", 12, None),
    ],
)
def test_names_of_experts(name: str, expert: int | None, half: int | None) -> None:
    assert place(name) == Place(f"{GATE_UP}.weight", expert, half)


def test_the_dense_mlp_of_a_moe_layer_is_not_an_expert() -> None:
    assert place("model.layers.3.mlp.gate_proj.weight") == Place(
        "language_model.layers.3.mlp.gate_proj.weight"
    )


def stored(shapes: dict[str, Any], dtype: str = "BF16") -> dict[str, StoredTensor]:
    return {
        n: StoredTensor(n, FILE, dtype, tuple(shape)) for n, shape in shapes.items()
    }


def fit(
    config: dict[str, Any], tensors: dict[str, StoredTensor], **quantization: Any
) -> Fit:
    if quantization:
        config = {**config, "quantization": quantization}
    return fit_weights(Gemma4(Config.from_dict(config)), tensors)


@pytest.mark.parametrize("name", ["E2B", "E4B", "26B-A4B", "31B"])
def test_real_models_at_full_size(name: str) -> None:
    """Every name and shape of the real files fits; nothing is allocated."""
    shapes = real.used_shapes(name)
    result = fit(real.read(name), stored(shapes))
    assert not result.packings and not result.channels_last
    used = [source for sources in result.sources.values() for _, source in sources]
    assert sorted(used) == sorted(shapes)


def test_shared_layers_unused_tensors_and_rotary_buffers_are_left_out() -> None:
    config = tiny.config_dict("E2B")
    shapes = tiny.tensor_shapes(config)
    unused = tiny.unused_shapes(config)
    assert len(unused) == 15
    rotary = {
        "model.language_model.rotary_emb.full_attention_inv_freq": (8,),
        "model.language_model.layers.0.self_attn.rotary_emb.inv_freq": (8,),
    }
    result = fit(config, stored(shapes | unused | rotary))
    used = [source for sources in result.sources.values() for _, source in sources]
    assert sorted(used) == sorted(shapes)


def test_unused_looking_tensors_of_other_layers_are_not_left_out() -> None:
    config = tiny.config_dict("E2B")
    shapes = tiny.tensor_shapes(config)
    shapes["model.language_model.layers.10.self_attn.k_proj.weight"] = (16, 32)
    shapes["model.language_model.layers.0.self_attn.v_norm.weight"] = (16,)
    with pytest.raises(CheckpointError, match=r"2 problem.*layers\.10.*v_norm"):
        fit(config, stored(shapes))


def test_values_of_a_layer_that_has_keys_as_values_are_unexpected() -> None:
    config = tiny.config_dict("31B")
    shapes = tiny.tensor_shapes(config)
    name = "model.language_model.layers.5.self_attn.v_proj.weight"
    with pytest.raises(CheckpointError, match=f"unexpected {name}"):
        fit(config, stored(shapes | {name: (32, 32)}))


def test_one_error_lists_everything() -> None:
    config = tiny.config_dict("E2B")
    shapes = tiny.tensor_shapes(config)
    del shapes["model.language_model.norm.weight"]
    shapes["model.language_model.layers.0.layer_scalar"] = (2,)
    shapes["model.language_model.extra"] = (1,)
    tensors = stored(shapes)
    tensors[f"model.{Q}.weight"] = StoredTensor(Q, FILE, "I32", (64, 32))
    with pytest.raises(CheckpointError) as caught:
        fit(config, tensors)
    message = str(caught.value)
    assert message.startswith("4 problem(s)") and "\n" not in message
    for part in (
        "missing language_model.norm.weight",
        "model.language_model.layers.0.layer_scalar has shape (2,) instead of (1,)",
        "unexpected model.language_model.extra",
        f"model.{Q}.weight has the type I32",
    ):
        assert part in message


def test_a_long_list_is_cut_and_counted() -> None:
    config = tiny.config_dict("E2B")
    with pytest.raises(CheckpointError, match=r"; and \d+ more\.") as caught:
        fit(config, {})
    assert str(caught.value).count("missing ") == 8


def test_the_same_parameter_twice() -> None:
    config = tiny.config_dict("E2B")
    tensors = stored(tiny.tensor_shapes(config) | {"model.norm.weight": (32,)})
    with pytest.raises(CheckpointError, match="are the same parameter"):
        fit(config, tensors)


def test_an_absent_half_or_expert() -> None:
    config = tiny.config_dict("26B-A4B")
    whole = tiny.tensor_shapes(config)
    del whole[f"model.{GATE_UP}"]
    one = {f"model.{LAYER}.experts.gate_proj": (8, 24, 32)}
    with pytest.raises(CheckpointError, match=f"{GATE_UP}.weight lacks 1 part"):
        fit(config, stored(whole | one))
    each = {f"model.{LAYER}.experts.{i}.gate_up_proj": (48, 32) for i in range(7)}
    with pytest.raises(CheckpointError, match=f"{GATE_UP}.weight lacks 1 part"):
        fit(config, stored(whole | each))
    more = {f"model.{LAYER}.experts.{i}.gate_up_proj": (48, 32) for i in range(9)}
    with pytest.raises(CheckpointError, match="has 1 too many"):
        fit(config, stored(whole | more))


def packed(
    name: str, outputs: int = 64, words: int = 4, groups: int = 1, **dtypes: str
) -> dict[str, StoredTensor]:
    """A quantised linear map of 32 inputs: 4 words and 1 group are 4-bit g32."""
    kinds = {"weight": "U32", "scales": "BF16", "biases": "BF16"} | dtypes
    widths = {"weight": words, "scales": groups, "biases": groups}
    return {
        f"{name}.{kind}": StoredTensor(name, FILE, dtype, (outputs, widths[kind]))
        for kind, dtype in kinds.items()
        if dtype
    }


NAME = f"model.{Q}"
FOUR = {"bits": 4, "group_size": 32}


@pytest.mark.parametrize(
    ("module", "quantization", "message"),
    [
        (
            packed(NAME, words=7),
            FOUR,
            r"no way MLX.*says bits 4, group_size 32\.",
        ),
        (packed(NAME, words=7), {}, "no way MLX knows.*says nothing of it"),
        (packed(NAME, words=7), {**FOUR, NAME: {"bits": 7}}, r"says bits 7\."),
        (packed(NAME, words=3, groups=2), FOUR, "in no way MLX knows"),
        (packed(NAME, biases=""), FOUR, "without biases"),
        (packed(NAME, biases="F32"), FOUR, "with biases"),
        (packed(NAME, scales="I32", biases="I32"), FOUR, "scales has the type I32"),
        (packed(NAME, weight="I32"), FOUR, "weight I32"),
        (packed(NAME, outputs=63), FOUR, r"has shape \(63, 4\) instead of \(64, 4\)"),
        (packed(NAME, weight=""), FOUR, "unexpected .*q_proj.scales"),
        (packed(NAME, scales=""), FOUR, "unexpected .*q_proj.biases"),
    ],
)
def test_contradictory_quantisation(
    module: dict[str, StoredTensor], quantization: dict[str, Any], message: str
) -> None:
    config = tiny.config_dict("E2B")
    tensors = stored(tiny.tensor_shapes(config))
    if module:
        del tensors[f"{NAME}.weight"]
    with pytest.raises(CheckpointError, match=message):
        fit(config, tensors | module, **quantization)


@pytest.mark.parametrize(
    "quantization",
    [
        {"bits": 8, "group_size": 32},
        {"bits": 4, "group_size": 64},
        {"bits": "4bit", "group_size": None},
        {**FOUR, "mode": "mxfp4"},
        {**FOUR, NAME: {"bits": 3}},
        {**FOUR, NAME: False},
        {**FOUR, f"language_model.model.{Q.removeprefix('language_model.')}": False},
        {**FOUR, Q.removeprefix("language_"): {"bits": 3, "mode": "nvfp4"}},
        {**FOUR, f"model.{LAYER}.mlp.up_proj": {"bits": 8}},  # of a plain weight
        {},
    ],
)
def test_shapes_decide_whatever_config_says(quantization: dict[str, Any]) -> None:
    """Warnings are errors in these tests: nothing is said about it."""
    config = tiny.config_dict("E2B")
    tensors = stored(tiny.tensor_shapes(config))
    del tensors[f"{NAME}.weight"]
    result = fit(config, tensors | packed(NAME), **quantization)
    assert {k: str(p) for k, p in result.packings.items()} == {
        Q: "4 bits, group_size 32, mode affine"
    }
    tensors |= packed(NAME, scales="U8", biases="")
    assert fit(config, tensors, **quantization).packings[Q].mode == "mxfp4"


def with_halves(config: dict[str, Any], gate: int, up: int) -> dict[str, StoredTensor]:
    """A mixture model whose gate and up are apart, packed in so many words a row."""
    tensors = stored(tiny.tensor_shapes(config))
    del tensors[f"model.{GATE_UP}"]
    for half, words in (("gate", gate), ("up", up)):
        for name, tensor in packed(f"{HALF}{half}_proj", 24, words).items():
            tensors[name] = StoredTensor(name, FILE, tensor.dtype, (8, *tensor.shape))
    return tensors


def test_halves_that_are_quantised_differently() -> None:
    config = tiny.config_dict("26B-A4B")
    tensors, up = with_halves(config, 4, 8), f"{HALF}up_proj"
    message = f"parts of {GATE_UP} are quantised differently"
    with pytest.raises(CheckpointError, match=message):
        fit(config, tensors, **FOUR, **{up: {"bits": 8}})
    for kind in ("scales", "biases"):
        del tensors[f"{up}.{kind}"]
    tensors[f"{up}.weight"] = StoredTensor(up, FILE, "BF16", (8, 24, 32))
    with pytest.raises(CheckpointError, match=message):
        fit(config, tensors, **FOUR)


def test_one_setting_for_both_halves() -> None:
    """Named as the module in which they end up."""
    config = tiny.config_dict("26B-A4B")
    override = {f"model.{GATE_UP}": {"bits": 8}}
    result = fit(config, with_halves(config, 8, 8), **FOUR, **override)
    assert result.packings[GATE_UP].bits == 8


def test_pieces_are_ordered_whatever_the_files_say() -> None:
    config = tiny.config_dict("26B-A4B", num_experts=12)
    shapes = tiny.tensor_shapes(config)
    del shapes[f"model.{GATE_UP}"]
    names = [
        f"model.{LAYER}.experts.{expert}.{half}_proj.weight"
        for expert in range(12)
        for half in ("gate", "up")
    ]
    tensors = stored(dict.fromkeys(sorted(names)[::-1], (24, 32)) | shapes)
    sources = fit(config, tensors).sources[f"{GATE_UP}.weight"]
    assert [name for _, name in sources] == names


def test_a_router_of_eight_bits_among_four() -> None:
    """What mlx-lm writes: an override without a mode, in its own naming."""
    config = tiny.config_dict("26B-A4B")
    tensors = stored(tiny.tensor_shapes(config))
    router, path = f"model.{LAYER}.router.proj", "language_model.model.layers.0"
    del tensors[f"{router}.weight"]
    tensors |= packed(router, outputs=8, words=8)
    override = {f"{path}.router.proj": {"bits": 8, "group_size": 32}}
    result = fit(config, tensors, **FOUR, mode="mxfp4", **override)
    packing = result.packings[f"{LAYER}.router.proj"]
    assert (packing.bits, packing.group_size, packing.mode) == (8, 32, "affine")


def test_written_names() -> None:
    assert hub_name("language_model.norm.weight", False) == (
        "model.language_model.norm.weight"
    )
    assert hub_name("language_model.norm.weight", True) == "model.norm.weight"
    assert hub_name("vision_tower.std_bias", False) == "model.vision_tower.std_bias"
    assert hub_name(f"{GATE_UP}.weight", False) == f"model.{GATE_UP}"
    assert hub_name(GATE_UP, False) == f"model.{GATE_UP}"
    start = "language_model.model.layers.0.experts.switch_glu"
    gate, up = (f"{start}.{half}_proj.weight" for half in ("gate", "up"))
    assert mlx_names(Place(f"{GATE_UP}.weight"), False) == (gate, up)
    assert mlx_names(Place(f"{GATE_UP}.weight", half=1), False) == (up,)
    assert mlx_names(Place("lm_head.weight"), False) == (
        "language_model.lm_head.weight",
    )
    assert mlx_names(Place("lm_head.weight"), True) == ("lm_head.weight",)


@pytest.mark.parametrize("variant", ["E2B", "26B-A4B", "untied", "text"])
def test_what_is_written_is_read_as_the_same(variant: str) -> None:
    text_only = variant == "text"
    names = dict(tree_flatten(tiny.build(variant).parameters()))
    assert "lm_head.weight" in names or variant != "untied"
    for name in names:
        assert place(hub_name(name, text_only)) == Place(name)
        written = [place(n) for n in mlx_names(Place(name), text_only)]
        halves = [Place(name, half=half) for half in (0, 1)]
        assert written == (halves if "gate_up" in name else [Place(name)])
