"""What each process holds, by numbers; and that its sums make the whole."""

import mlx.core as mx
import numpy as np
import pytest
import real
import tiny

from mlx_gemma4.checkpoint.packing import Packing
from mlx_gemma4.config import Config, TextConfig
from mlx_gemma4.memory.held import kv_bytes
from mlx_gemma4.sharding.parts import Part, take_part
from mlx_gemma4.sharding.plan import LAYERS, Cut, plan_shards

SHAPES = ("E2B", "E4B", "12B", "26B-A4B", "31B")
ATTENTION = "language_model.layers.{}.self_attn.{}"


def text(name: str) -> TextConfig:
    return Config.from_dict(real.read(name)).text_config


def test_heads_of_31b() -> None:
    config = text("31B")
    plan = plan_shards(config, {}, 1, 4)
    assert not plan.whole
    assert [layer.heads for layer in plan.layers] == [8] * config.num_hidden_layers
    assert plan.layers[0].kv_heads == config.layer_key_value_heads(0) // 4
    assert plan.cut(ATTENTION.format(0, "q_proj.weight")) == Cut(-2, 1, 2, 4)
    assert plan.cut(ATTENTION.format(0, "o_proj.scales")) == Cut(-1, 1, 2, 4)


def test_few_keys_are_held_by_several() -> None:
    """26B's full layers have 2 heads of keys: of four processes, two hold each."""
    config = text("26B-A4B")
    full = config.layer_types.index("full_attention")
    heads = [plan_shards(config, {}, rank, 4).cuts for rank in range(4)]
    assert [cuts[ATTENTION.format(full, "k_proj")].start for cuts in heads] == [
        0,
        0,
        1,
        1,
    ]


def test_groups_are_not_cut() -> None:
    """2,112 inputs are 33 groups of 64: one process has one more."""
    config = text("26B-A4B")
    packing = Packing(4, 64, "affine")
    packings = {f"{LAYERS}.{i}.mlp.down_proj": packing for i in range(30)}
    plans = [plan_shards(config, packings, rank, 2) for rank in range(2)]
    cuts = [plan.cuts[f"{LAYERS}.0.mlp.down_proj"] for plan in plans]
    assert [(cut.start, cut.stop, cut.whole) for cut in cuts] == [
        (0, 16, 33),
        (16, 33, 33),
    ]
    assert [plan.layers[0].experts for plan in plans] == [range(64), range(64, 128)]


def test_what_stays_whole_is_said() -> None:
    plan = plan_shards(text("E2B"), {}, 0, 3)
    assert plan.whole == [
        "attention of sliding_attention layers: 8 heads in 3 parts",
        "attention of full_attention layers: 8 heads in 3 parts",
    ]
    assert all(layer.heads == 8 and layer.mlp for layer in plan.layers)


def test_only_the_first_sees_and_hears() -> None:
    config = text("E2B")
    assert plan_shards(config, {}, 0, 2).holds("vision_tower.encoder.weight")
    assert not plan_shards(config, {}, 1, 2).holds("vision_tower.encoder.weight")
    assert plan_shards(config, {}, 1, 2).share("embed_audio.x.weight", 8) == 0


def test_keys_of_a_part_take_a_part() -> None:
    """31B's in four; of E2B's one head each process has it, and of three all."""
    for shape, ranks, times in (("31B", 4, 4), ("E2B", 2, 1), ("E2B", 3, 1)):
        config = text(shape)
        own = plan_shards(config, {}, 0, ranks).config_of_part(config)
        each = [kv_bytes(of, 4096, mx.bfloat16) for of in (config, own)]
        assert each[0] == times * each[1]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_parts_are_the_whole(shape: str, ranks: int) -> None:
    """Every layer's networks, as a sum over all parts."""
    whole = tiny.build(shape)
    config = whole.config.text_config
    x = mx.random.normal((1, 5, config.hidden_size), key=mx.random.key(0))
    chosen = mx.array([[0, 3], [7, 2]], mx.uint32)
    weights = mx.array([[0.25, 0.75], [0.5, 0.5]])
    mlps, experts, widths = mx.zeros(x.shape), mx.zeros((2, x.shape[-1])), 0
    group = mx.distributed.init()
    for rank in range(ranks):
        own = tiny.build(shape)
        take_part(own, Part(plan_shards(config, {}, rank, ranks), group))
        layer = own.layers[0]
        mlps += layer.mlp(x)
        widths += layer.mlp.up_proj.weight.shape[0]
        if layer.has_experts:
            experts += layer.experts(x[0, :2], chosen, weights)
    np.testing.assert_allclose(mlps, whole.layers[0].mlp(x), atol=1e-4)
    assert widths == whole.layers[0].mlp.up_proj.weight.shape[0]
    if whole.layers[0].has_experts:
        np.testing.assert_allclose(
            experts, whole.layers[0].experts(x[0, :2], chosen, weights), atol=1e-4
        )
