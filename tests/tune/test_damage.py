"""Other names for the same adapter are the same; damage is refused by name."""

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden
import mlx.core as mx
import pytest
import tiny
from adapting import Tensors, change_folder, filled
from places import FIXTURES, REAL

from mlx_gemma4.checkpoint.files import SIZES
from mlx_gemma4.config import Config
from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.hub.resolve import resolve
from mlx_gemma4.model import Gemma4
from mlx_gemma4.tune.adapters import Adapter, AdapterSettings, new_adapter
from mlx_gemma4.tune.errors import AdapterError, AdapterWarning
from mlx_gemma4.tune.formats import read_adapter, write_adapter

LINEAR = FIXTURES / "adapters" / "linear"
START = "base_model.model."
Q = "model.language_model.layers.1.self_attn.q_proj"
PEFT_A, PEFT_B = f"{START}{Q}.lora_A.weight", f"{START}{Q}.lora_B.weight"
MLX_A = "language_model.model.layers.1.self_attn.q_proj.lora_a"
MLX_B = "language_model.model.layers.1.self_attn.q_proj.lora_b"
Change = Callable[[Tensors], Tensors]


@pytest.fixture(scope="module")
def model() -> Gemma4:
    return tiny.build("E2B", golden.SEED)


@pytest.fixture(scope="module")
def linear(model: Gemma4) -> Adapter:
    return read_adapter(LINEAR, model)


@pytest.fixture(scope="module")
def ours(model: Gemma4, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in our own format, which is mlx-lm's."""
    folder = tmp_path_factory.mktemp("mlx")
    write_adapter(folder, model, read_adapter(LINEAR, model), {"model": "tiny"})
    return folder


def same(one: Adapter, other: Adapter) -> bool:
    a, b = one.parameters(), other.parameters()
    return (
        (one.kind, one.rank, one.scale) == (other.kind, other.rank, other.scale)
        and a.keys() == b.keys()
        and all(mx.array_equal(a[name], b[name]).item() for name in a)
    )


def renamed(old: str, new: str) -> Change:
    """Every tensor under another name."""

    def change(tensors: Tensors) -> Tensors:
        found = {re.sub(old, new, name): tensor for name, tensor in tensors.items()}
        assert len(found) == len(tensors) and not found.keys() & tensors.keys()
        return found

    return change


PEFT_NAMES = {
    "an adapter's name": renamed(r"\.weight$", ".default.weight"),
    "another's": renamed(r"\.weight$", ".my-adapter.weight"),
    "a wrapper of PEFT more": renamed("^", START),
    "none of PEFT's": renamed(f"^{START}", ""),
    "compiled": renamed("^", "_orig_mod."),
    "compiled inside": renamed(f"^{START}", f"{START}_orig_mod."),
    "layers compiled": renamed(r"(layers\.\d+\.)", r"\1_orig_mod."),
    "in parallel": renamed("^", "module."),
    "all of them": renamed("^", "module._orig_mod.base_model.model."),
    "the other way round": renamed("^", "_orig_mod.module."),
    "sharded": renamed(r"(layers\.\d+\.)", r"_fsdp_wrapped_module.\1"),
    "checkpointed": renamed(r"(layers\.\d+)", r"\1._checkpoint_wrapped_module"),
    "a text model": renamed("model.language_model.", "model."),
    "its decoder": renamed("model.language_model.", ""),
    "a whole model's decoder": renamed("model.language_model.", "language_model."),
    "an earlier whole model": renamed("model.language_model.", "language_model.model."),
    "no weight": renamed(r"\.weight$", ".default"),
}


@pytest.mark.parametrize("case", PEFT_NAMES)
def test_other_names_of_peft(case: str, tmp_path: Path, model: Gemma4, linear: Adapter):
    folder = change_folder(LINEAR, tmp_path, {}, PEFT_NAMES[case])
    assert same(read_adapter(folder, model), linear)


MLX_NAMES = {
    "without language_model": renamed(r"language_model\.model", "model"),
    "the Hub's": renamed(r"language_model\.model", "model.language_model"),
    "no model": renamed(r"language_model\.model\.", "language_model."),
    "layers alone": renamed(r"language_model\.model\.", ""),
    "compiled": renamed("^", "_orig_mod."),
}


@pytest.mark.parametrize("case", MLX_NAMES)
def test_other_names_of_mlx(
    case: str, tmp_path: Path, model: Gemma4, linear: Adapter, ours: Path
):
    folder = change_folder(ours, tmp_path, {}, MLX_NAMES[case])
    assert same(read_adapter(folder, model), linear)


def test_earlier_adapters_of_mlx_vlm(
    tmp_path: Path, model: Gemma4, linear: Adapter, ours: Path
):
    """rank, alpha and dropout alone; A and B."""

    def change(tensors: Tensors) -> Tensors:
        return {
            n.replace("lora_a", "A").replace("lora_b", "B"): tensors[n] for n in tensors
        }

    folder = change_folder(ours, tmp_path, {}, change)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({"rank": 2, "alpha": 3, "dropout": 0.1}))
    assert same(read_adapter(folder, model), linear)
    path.write_text(json.dumps({"rank": 2}))
    assert read_adapter(folder, model).scale == 0.1 / 2
    path.write_text(json.dumps({"rank": 0, "alpha": 3}))
    with pytest.raises(AdapterError, match="rank is 0, no rank"):
        read_adapter(folder, model)


def test_adapters_of_mlx_vlm(
    tmp_path: Path, model: Gemma4, linear: Adapter, ours: Path
):
    """Its keys are whole names."""
    tensors: Any = mx.load(str(ours / "adapters.safetensors"))
    parameters = {
        "rank": 2,
        "dropout": 0.0,
        "scale": 1.5,
        "keys": sorted({name.rpartition(".")[0] for name in tensors}),
    }
    folder = change_folder(ours, tmp_path, {"lora_parameters": parameters})
    assert same(read_adapter(folder, model), linear)


def put(name: str, make: Callable[[mx.array], Any], *, new: str = "") -> Change:
    """One tensor made of itself, or under a new name beside it."""

    def change(tensors: Tensors) -> Tensors:
        return tensors | {new or name: make(tensors[name])}

    return change


def without(name: str) -> Change:
    return lambda tensors: {n: t for n, t in tensors.items() if n != name}


def holding(value: float) -> Callable[[mx.array], mx.array]:
    def make(tensor: mx.array) -> mx.array:
        tensor = mx.array(tensor)
        tensor[0, 1] = value
        return tensor

    return make


def typed(dtype: mx.Dtype) -> Callable[[mx.array], mx.array]:
    return lambda tensor: tensor.astype(dtype)


def cut(axis: int, size: int) -> Callable[[mx.array], mx.array]:
    return lambda t: mx.split(t, [size], axis=axis)[0] if size else t[:0]


TABLE = f"{START}model.language_model.embed_tokens"
L99 = Q.replace("layers.1.", "layers.99.")
# What is damaged -> the change, and what the error says.
PEFT_DAMAGE: dict[str, tuple[Change, str]] = {
    "nan": (put(PEFT_A, holding(float("nan"))), rf"no finite numbers: {PEFT_A}\."),
    "infinite": (put(PEFT_B, holding(float("inf"))), rf"no finite.*{PEFT_B}\."),
    "integers": (put(PEFT_A, typed(mx.int32)), rf"{PEFT_A} \(I32\)"),
    "bytes": (put(PEFT_B, typed(mx.uint8)), rf"{PEFT_B} \(U8\)"),
    "no A": (without(PEFT_A), rf"{PEFT_B} has no A beside it"),
    "no B": (without(PEFT_B), rf"{PEFT_A} has no B beside it"),
    "rank of A": (put(PEFT_A, cut(0, 1)), rf"{PEFT_A} has the shape \(1, 32\).*rank 2"),
    "rank of B": (put(PEFT_B, cut(1, 1)), rf"{PEFT_A} and {PEFT_B} are no pair"),
    "rank zero": (put(PEFT_A, cut(0, 0)), rf"{PEFT_A} has the shape \(0, 32\)"),
    "inputs": (
        put(PEFT_A, cut(1, 30)),
        rf"another model \(it names tiny/base\): {PEFT_A} adapts a weight of "
        r"\(64, 30\), this model's is \(64, 32\)",
    ),
    "outputs": (put(PEFT_B, cut(0, 60)), r"a weight of \(60, 32\), .* is \(64, 32\)"),
    "turned": (put(PEFT_A, lambda t: t.T), r"has the shape \(32, 2\).*rank 2"),
    "one dimension": (put(PEFT_B, lambda t: t[:, 0]), rf"{PEFT_B} has 1 dimensions"),
    "no such layer": (
        put(PEFT_A, lambda t: t, new=f"{START}{L99}.lora_A.weight"),
        rf"another model.*{L99}.lora_A.weight adapts language_model.layers.99.* does "
        "not exist in this model",
    ),
    "no linear map": (
        put(PEFT_A, lambda t: t, new=PEFT_A.replace("q_proj", "q_norm")),
        "q_norm, which is no linear map of this model",
    ),
    "head": (
        put(PEFT_A, lambda t: t, new=f"{START}lm_head.lora_A.weight"),
        r"linear cannot be used.*lm_head.lora_A.weight adapts the head alone",
    ),
    "table": (
        put(PEFT_A, lambda t: t, new=f"{TABLE}.lora_embedding_A"),
        rf"{TABLE}.lora_embedding_A, LoRA of an embedding table",
    ),
    "table as parameter": (
        put(PEFT_A, lambda t: t, new=f"{TABLE}.lora_A.weight"),
        r"embed_tokens.lora_A.weight adapts an embedding table",
    ),
    "whole weight": (
        put(PEFT_A, lambda t: t, new=f"{TABLE}.weight"),
        rf"{TABLE}.weight, a whole weight \(modules_to_save",
    ),
    "bias of LoRA": (
        put(PEFT_B, lambda t: t[:, 0], new=PEFT_B.replace("weight", "bias")),
        r"lora_B.bias, a bias of LoRA \(lora_bias\)",
    ),
    "bias": (
        put(PEFT_B, lambda t: t[:, 0], new=f"{START}{Q}.bias"),
        r"q_proj.bias, a bias \(bias\)",
    ),
    "magnitude": (
        put(PEFT_B, lambda t: t[:, 0], new=f"{START}{Q}.lora_magnitude_vector"),
        "use_dora is false, but lora_magnitude_vector is there",
    ),
    "two adapters": (
        put(PEFT_A, lambda t: t, new=PEFT_A.replace(".weight", ".b.weight")),
        r"several adapters \(None, b\): save one",
    ),
    "twice": (
        put(PEFT_A, lambda t: t, new=PEFT_A.replace("model.language_model", "model")),
        r"are the same",
    ),
    "twice, compiled": (
        put(PEFT_A, lambda t: t, new=f"_orig_mod.{PEFT_A}"),
        r"are the same",
    ),
    "one expert": (
        put(PEFT_A, lambda t: t, new=PEFT_A.replace("self_attn.q", "experts.3.gate")),
        r"experts.3.gate_proj.lora_A.weight adapts a part of a module",
    ),
    "experts": (
        put(PEFT_A, lambda t: t, new=f"{START}model.layers.1.experts.lora_A.weight"),
        r"experts.lora_A.weight adapts .* target_parameters names 0, its file has 1",
    ),
    "nested": (
        put(PEFT_A, lambda t: t, new=PEFT_A.replace("lora_A", "base_layer.lora_A")),
        r"base_layer.lora_A.weight adapts a part of a module",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", PEFT_DAMAGE)
def test_damaged_tensors_of_peft(case: str, tmp_path: Path, model: Gemma4):
    change, words = PEFT_DAMAGE[case]
    stated: dict[str, Any] = {"base_model_name_or_path": "tiny/base"}
    # All modules, so that none is left out for its name.
    stated["target_modules"] = ".*"
    folder = change_folder(LINEAR, tmp_path / "linear", stated, change)
    with pytest.raises(AdapterError, match=words):
        read_adapter(folder, model)


MLX_DAMAGE: dict[str, tuple[Change, str]] = {
    "nan": (put(MLX_A, holding(float("nan"))), rf"no finite numbers: {MLX_A}\."),
    "integers": (put(MLX_A, typed(mx.int64)), rf"{MLX_A} \(I64\)"),
    "no A": (without(MLX_A), rf"{MLX_B} has no A beside it"),
    "no B": (without(MLX_B), rf"{MLX_A} has no B beside it"),
    "rank": (put(MLX_A, cut(1, 1)), rf"{MLX_A} and {MLX_B} are no pair"),
    "inputs": (
        put(MLX_A, cut(0, 30)),
        r"names tiny\): .* of \(64, 30\), .* \(64, 32\)",
    ),
    "outputs": (put(MLX_B, cut(1, 60)), r"a weight of \(60, 32\), .* is \(64, 32\)"),
    "scalar": (put(MLX_B, lambda t: t[0, 0]), rf"{MLX_B} has 0 dimensions"),
    "magnitude": (
        put(MLX_B, lambda t: t[0], new=MLX_B.replace("lora_b", "m")),
        r"fine_tune_type lora, but .* a magnitude m of .*layers.1.self_attn.q_proj",
    ),
    "whole weight": (
        put(MLX_A, lambda t: t, new=MLX_A.replace("lora_a", "weight")),
        r"no low-rank adapter: it holds .*layers.1.self_attn.q_proj.weight",
    ),
    "table": (
        put(MLX_A, lambda t: t, new="language_model.model.embed_tokens.lora_a"),
        r"cannot be used: .*embed_tokens.lora_a adapts an embedding table",
    ),
    "head": (
        put(MLX_A, lambda t: t, new="language_model.lm_head.lora_a"),
        r"cannot be used: language_model.lm_head.lora_a adapts the head alone",
    ),
    "twice": (
        put(MLX_A, lambda t: t, new=MLX_A.removeprefix("language_model.")),
        r"are the same",
    ),
    "one half of experts": (
        put(
            MLX_A,
            lambda t: t,
            new="model.layers.1.experts.switch_glu.gate_proj.lora_a",
        ),
        r"experts.gate_up_proj is adapted by halves",
    ),
}


@pytest.mark.parametrize("case", MLX_DAMAGE)
def test_damaged_tensors_of_mlx(case: str, tmp_path: Path, model: Gemma4, ours: Path):
    change, words = MLX_DAMAGE[case]
    folder = change_folder(ours, tmp_path, {"lora_parameters": {"scale": 1.0}}, change)
    with pytest.raises(AdapterError, match=words):
        read_adapter(folder, model)


HUGE = 10**400  # no float holds it
PEFT_NUMBERS = [
    ("lora_alpha", HUGE),
    ("lora_alpha", float("nan")),
    ("r", HUGE),
    ("r", True),
    ("alpha_pattern", {"q_proj": HUGE}),
    ("rank_pattern", {"q_proj": HUGE}),
]


@pytest.mark.parametrize(("key", "value"), PEFT_NUMBERS)
def test_numbers_of_peft(key: str, value: Any, tmp_path: Path, model: Gemma4):
    folder = change_folder(LINEAR, tmp_path, {key: value})
    with pytest.raises(AdapterError, match=rf"{key}.* is .*, no (usable number|rank)"):
        read_adapter(folder, model)


MLX_NUMBERS: list[dict[str, Any]] = [
    {"lora_parameters": {"scale": HUGE}},
    {"lora_parameters": {"scale": float("inf")}},
    {"lora_parameters": None, "rank": 2, "alpha": HUGE},
    {"lora_parameters": None, "rank": HUGE},
]


@pytest.mark.parametrize("stated", MLX_NUMBERS)
def test_numbers_of_mlx(
    stated: dict[str, Any], tmp_path: Path, model: Gemma4, ours: Path
):
    folder = change_folder(ours, tmp_path, stated)
    with pytest.raises(
        AdapterError, match="(scale|alpha|rank) is .*, no (usable|rank)"
    ):
        read_adapter(folder, model)


def test_damaged_whole_parameters(tmp_path: Path, model: Gemma4):
    write_adapter(tmp_path, model, new_adapter(model, AdapterSettings("full")), {})
    name = "language_model.model.layers.0.mlp.up_proj.weight"
    file = tmp_path / "adapters.safetensors"
    whole: Any = mx.load(str(file))
    mx.eval(whole)
    changes = (
        (put(name, cut(0, 5)), r"up_proj.weight has the shape \(5, 32\), .*\(48, 32\)"),
        (
            put(name, lambda t: t, new="model.x"),
            "model.x is no parameter of this model",
        ),
        (put(name, holding(float("nan"))), rf"no finite numbers: {name}"),
    )
    for change, words in changes:
        mx.save_safetensors(str(file), change(whole))
        with pytest.raises(AdapterError, match=words):
            read_adapter(tmp_path, model)
    other = name.replace("layers.0.mlp.up_proj", "layers.9.self_attn.k_proj")
    mx.save_safetensors(str(file), whole | {other: whole[name]})
    assert read_adapter(tmp_path, model).weights.keys() == {
        n.replace("language_model.model", "language_model") for n in whole
    }


HEADER = b"\x02\0\0\0\0\0\0\0{}"
FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "truncated or no safetensors file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "text": (b"<html>not found</html>" * 9, "no safetensors file"),
    "no tensors": (HEADER, "holds no tensor"),
    "bytes too many": (HEADER + b"12", "2 bytes too many"),
}


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("form", ["peft", "mlx"])
def test_damaged_files(case: str, form: str, tmp_path: Path, model: Gemma4, ours: Path):
    content, words = FILES[case]
    folder = change_folder(LINEAR if form == "peft" else ours, tmp_path, {})
    (file,) = folder.glob("*.safetensors")
    file.write_bytes(content)
    with pytest.raises(AdapterError, match=f"{file}.*{words}"):
        read_adapter(folder, model)


@pytest.mark.parametrize("dtype", ["F64", "F8_E4M3", "BOOL"])
def test_numbers_of_other_types(dtype: str, tmp_path: Path, model: Gemma4):
    entry = {"dtype": dtype, "shape": [1], "data_offsets": [0, SIZES[dtype]]}
    header = json.dumps({PEFT_A: entry}).encode()
    folder = change_folder(LINEAR, tmp_path, {})
    file = folder / "adapter_model.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(SIZES[dtype]))
    with pytest.raises(AdapterError, match=rf"{PEFT_A} \({dtype}\); an adapter's num"):
        read_adapter(folder, model)


def test_what_lies_in_the_place_of_an_adapter(
    tmp_path: Path, model: Gemma4, demo_folder: Path
):
    def refused(path: Path, words: str) -> None:
        with pytest.raises(AdapterError, match=words):
            read_adapter(path, model)

    refused(demo_folder, "demo is a model, no adapter: name it with --model")
    refused(tmp_path / "nowhere", "There is no folder .*nowhere")
    refused(demo_folder / "config.json", r"config\.json is a file: name the adapter's")
    folder = change_folder(LINEAR, tmp_path / "run" / "checkpoint-7", {})
    refused(tmp_path / "run", r"Its folders have one: checkpoint-7\.")
    with pytest.raises(CheckpointError, match="holds an adapter.*--adapter"):
        resolve(folder)
    weights = folder / "adapter_model.safetensors"
    weights.rename(folder / "adapter_model.bin")
    refused(folder, r"only as adapter_model\.bin, which is not read: save the adapter")
    (folder / "adapter_model.bin").unlink()
    refused(folder, r"adapter_model\.safetensors is missing")


def test_a_real_adapter_of_kv_shared_layers_too(tmp_path: Path):
    """All linear maps of E2B's decoder, as Unsloth adapts them: 490 tensors."""
    config = Config.from_file(REAL / "google" / "gemma-4-E2B-it" / "config.json")
    model = Gemma4(config)  # unevaluated
    shapes = json.loads(
        (REAL / "google" / "gemma-4-E2B-it" / "tensors.json").read_text()
    )
    linear = re.compile(
        r"model\.language_model\.layers\.\d+\.(?:self_attn\.[qkvo]|mlp\.\w+)_proj"
    )
    tensors: Tensors = {}
    for name, shape in shapes.items():
        module = name.removesuffix(".weight")
        if linear.fullmatch(module):
            tensors[f"{START}{module}.lora_A.weight"] = mx.zeros((1, shape[1]))
            tensors[f"{START}{module}.lora_B.weight"] = mx.zeros((shape[0], 1))
    assert len(tensors) == 490
    mx.save_safetensors(str(tmp_path / "adapter_model.safetensors"), tensors)
    stated = {"peft_type": "LORA", "r": 1, "target_modules": ".*_proj"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(stated))
    with pytest.warns(AdapterWarning, match=r"KV-shared layers \(15-34\)") as said:
        read = read_adapter(tmp_path, model)
    assert len(said) == 1 and 2 * len(read.layers) == 410


def test_one_half_of_gate_and_up(tmp_path: Path):
    """mlx-lm can be told to adapt gate_proj of the experts alone."""
    model = tiny.build("26B-A4B", golden.SEED)
    adapter = filled(model, "lora", "experts")
    write_adapter(tmp_path, model, adapter, {})
    file = tmp_path / "adapters.safetensors"
    tensors: Any = mx.load(str(file))
    mx.eval(tensors)
    for half, place in (("gate", slice(None, 24)), ("up", slice(24, None))):
        kept = {n: t for n, t in tensors.items() if f"{half}_proj" in n}
        mx.save_safetensors(str(file), kept)
        for path, layer in read_adapter(tmp_path, model).layers.items():
            delta = layer.merged() - layer.linear.weight
            whole = adapter.layers[path].merged() - layer.linear.weight
            expected = mx.zeros_like(whole)
            expected[:, place] = whole[:, place]
            assert mx.allclose(delta, expected, atol=1e-5).item()
