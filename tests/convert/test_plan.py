"""Plans from headers alone, of tiny folders and of all four models' real shapes."""

import json
from pathlib import Path

import jobs
import pytest
import real
import tiny
from planned import by_path, full_size

from mlx_gemma4.checkpoint.files import StoredTensor, read_tensors
from mlx_gemma4.checkpoint.packing import Packing
from mlx_gemma4.checkpoint.shards import lay_out
from mlx_gemma4.convert.classes import TensorClass, class_of
from mlx_gemma4.convert.plan import Line, Plan, Reason
from mlx_gemma4.convert.recipes import RECIPES
from mlx_gemma4.convert.survey import Wishes, located, make_plan
from mlx_gemma4.errors import CheckpointError

MODELS = ("E2B", "E4B", "26B-A4B", "31B")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "billions", "gigabytes"),
    [
        ("E2B", 5.10, 3.52),
        ("E4B", 7.94, 5.12),
        ("26B-A4B", 25.8, 15.03),
        ("31B", 31.3, 18.12),
    ],
)
def test_real_models(model: str, billions: float, gigabytes: float) -> None:
    plan = full_size(model)
    assert plan.params / 1e9 == pytest.approx(billions, rel=0.01)
    assert plan.out_bytes / 1e9 == pytest.approx(gigabytes, rel=0.002)
    assert plan.source_bytes == 2 * plan.params
    assert sum(line.out_bytes for line in plan.table) == plan.out_bytes
    kept = {line.kind for line in plan.table if line.packing is None}
    assert {TensorClass.VISION, TensorClass.NORM} <= kept
    assert TensorClass.ATTENTION not in kept and TensorClass.MLP not in kept


@pytest.mark.slow
def test_memory_of_e2b() -> None:
    plan = full_size("E2B")
    memory = plan.memory
    assert memory.vision / 1e9 == pytest.approx(0.34, rel=0.02)
    assert memory.audio / 1e9 == pytest.approx(0.61, rel=0.02)
    table = line_of(plan, TensorClass.PLE_TABLE).out_bytes
    assert table / 1e9 == pytest.approx(2.35 * 4.25 / 8, rel=0.01)
    assert (memory.text - table) / 1e9 == pytest.approx(1.32, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_what_sees_and_hears_in_12b_keeps_full_precision(recipe: str) -> None:
    """As in Google's w4a16-ct, whose `ignore` names all of it; 0.10 of 6.77 GB."""
    config = real.read("google/gemma-4-12B-it-qat-w4a16-ct")
    ignored = config.pop("quantization_config")["ignore"]
    sources = {
        name: StoredTensor(name, Path("model.safetensors"), "BF16", tuple(shape))
        for name, shape in real.read("google/gemma-4-12B-it", "tensors.json").items()
    }
    plan = make_plan(sources, config, Wishes(recipe), "google/gemma-4-12B-it")
    kinds = (TensorClass.VISION, TensorClass.AUDIO)
    media = [tensor for tensor in plan.tensors if tensor.kind in kinds]
    assert len(media) == 11 and not any(tensor.packing for tensor in media)
    assert (plan.memory.vision, plan.memory.audio) == (99_844_608, 4_915_200)
    matrices = {t.name.removesuffix(".weight") for t in media if len(t.shape) == 2}
    assert matrices < set(ignored) and len(matrices) == 3
    if recipe == "4bit":
        assert plan.out_bytes / 1e9 == pytest.approx(6.77, rel=0.001)


def test_names_are_those_of_mlx() -> None:
    modules = by_path(full_size("26B-A4B"))
    layer = "language_model.model.layers.0"
    for projection in ("gate", "up", "down"):
        assert f"{layer}.experts.switch_glu.{projection}_proj" in modules
    assert f"{layer}.router.proj" in modules
    assert "language_model.model.embed_tokens" in modules
    assert f"{layer}.layer_scalar" in modules
    assert not any(module.startswith("model.") for module in modules)


def test_values_have_more_bits() -> None:
    """In full-attention layers of 31B the keys are the values."""
    modules = by_path(full_size("31B"))
    fine, body = Packing(6, 128, "affine"), Packing(4, 128, "affine")
    for layer, name, packing in (
        (4, "v_proj", fine),
        (4, "k_proj", body),
        (5, "k_proj", fine),
        (5, "q_proj", body),
    ):
        path = f"language_model.model.layers.{layer}.self_attn.{name}"
        assert modules[path].packing == packing


# What mlx-lm's default conversion of the text model takes, 4.5 bits for all matrices.
UNIFORM = [("E2B", 2.604), ("E4B", 4.20), ("26B-A4B", 14.19), ("31B", 17.27)]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "gigabytes"), UNIFORM)
def test_four_bits_take_no_more_than_uniform_ones(model: str, gigabytes: float) -> None:
    assert full_size(model).memory.text / 1e9 <= gigabytes


def test_unused_keys_and_values_are_left_out(tmp_path: Path) -> None:
    jobs.source(tmp_path, "E2B", unused_kv=True)
    plan = jobs.plan(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert {d.source.name for d in plan.dropped} == set(tiny.unused_shapes(config))
    assert {d.reason for d in plan.dropped} == {Reason.UNREAD}


def test_groups_that_do_not_divide_fall_back_visibly(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, "31B", hidden_size=32, intermediate_size=48)
    modules = by_path(jobs.plan(tmp_path))
    layer = "language_model.model.layers.0.mlp"
    up, down = modules[f"{layer}.up_proj"], modules[f"{layer}.down_proj.weight"]
    assert up.packing == Packing(4, 32, "affine")
    assert up.note == "groups of 128 do not divide 32 inputs: groups of 32"
    assert down.packing is None
    assert down.note == "groups of 128 do not divide 48 inputs: kept"


def test_offsets_point_at_the_tensors(tmp_path: Path) -> None:
    values = tiny.write_checkpoint(tmp_path, "E2B", shards=3)
    for name, source in read_tensors(tmp_path).items():
        data = source.file.read_bytes()[source.offset :][: source.nbytes]
        assert data == values[name].tobytes()


def test_layout_of_files_covers_every_byte(tmp_path: Path) -> None:
    plan = jobs.plan(jobs.source(tmp_path))
    groups = [tensor.all_targets for tensor in plan.tensors]
    shards = lay_out(groups, "mlx", jobs.SHARD)
    assert len(shards) > 2
    total = 0
    for shard in shards:
        position = len(shard.header)
        for tensor in sorted(shard.tensors.values(), key=lambda t: t.offset):
            assert tensor.offset == position
            position += tensor.nbytes
            total += tensor.nbytes
        assert position == shard.size
    assert total == plan.out_bytes


def test_missing_tensor_is_named(tmp_path: Path) -> None:
    jobs.source(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] += 1
    config["text_config"]["layer_types"].append("full_attention")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"is 7, .*no \S+layers\.6 is there"):
        jobs.plan(tmp_path)


@pytest.mark.slow
def test_converted_source_is_refused(tmp_path: Path) -> None:
    jobs.convert(jobs.source(tmp_path / "hub"), tmp_path / "out")
    with pytest.raises(CheckpointError, match="quantised already"):
        jobs.plan(tmp_path / "out")


def test_single_experts_are_refused() -> None:
    name = "model.language_model.layers.0.experts.3.gate_proj.weight"
    with pytest.raises(CheckpointError, match="join the experts"):
        located(name)


def test_unknown_tensor_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no part of Gemma 4"):
        class_of("language_model.layers.0.surprise.weight")


def line_of(plan: Plan, kind: TensorClass) -> Line:
    (line,) = [line for line in plan.table if line.kind == kind]
    return line


def test_float32_becomes_bfloat16(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, "31B", **jobs.SIZES)
    plan = jobs.plan(tmp_path, "bf16")
    assert {tensor.dtype for tensor in plan.tensors} == {"BF16"}
    assert plan.out_bytes * 2 == plan.source_bytes
    assert line_of(plan, TensorClass.MLP).packing is None
