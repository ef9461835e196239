"""The plan of a run: what it counts, and memory that is never less than measured."""

from typing import Any

import mlx.core as mx
import pytest
import tiny
import tiny_media
from rows import Rows

from mlx_gemma4.model import Gemma4
from mlx_gemma4.tune.adapters import AdapterSettings, new_adapter
from mlx_gemma4.tune.examples import Encoded, Example
from mlx_gemma4.tune.learning import gradient_of, prepare
from mlx_gemma4.tune.optimizer import first_state, updated
from mlx_gemma4.tune.plan import knobs, make_plan
from mlx_gemma4.tune.plan_towers import tower_memory
from mlx_gemma4.tune.records import Record
from mlx_gemma4.tune.settings import Settings

CONFIG = tiny_media.config_dict("E2B")
SEEN = Record("a:1", ({"role": "user", "content": [{"type": "image", "image": "x"}]},))


def rows_and_examples(media: bool) -> tuple[Rows, list[Example]]:
    """Two long rows, with media or without, as the model and as the plan see them."""
    rows = Rows()
    for seed in (1, 2):
        if media:
            prompt = tiny_media.prompt(CONFIG, seed)
        else:
            prompt = tiny_media.Prompt(tiny.random_tokens(60, seed))
        rows.add(prompt, -3, -2, -1)
    record = SEEN if media else Record("a:1")
    marks = [
        [i >= len(p.tokens) - 3 for i in range(len(p.tokens))] for p in rows.prompts
    ]
    examples = [
        Example(p.tokens, m, record) for p, m in zip(rows.prompts, marks, strict=True)
    ]
    return rows, examples


def built(settings: AdapterSettings, dtype: mx.Dtype = mx.float32) -> Any:
    # A seed, or the first gradient would go back through all random arrays that other
    # tests have left unmade, deeper than MLX can.
    mx.random.seed(0)
    model = Gemma4(tiny.Config.from_dict(CONFIG))
    model.set_dtype(dtype)
    return model, new_adapter(model, settings)


def most(model: Gemma4, learned: Any, rows: Rows) -> int:
    """Bytes at the peak of a step, what was there before it taken off."""
    gradient, batch = gradient_of(model, True), rows.batch()
    mx.eval(gradient(learned, batch))
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(gradient(learned, batch))
    return mx.get_peak_memory() - before


@pytest.mark.slow
@pytest.mark.parametrize(
    "media, targets",
    [
        (False, ("attention", "mlp")),
        (True, ("attention", "mlp")),
        pytest.param(True, ("attention", "vision"), marks=pytest.mark.slow),
        pytest.param(True, ("attention", "audio"), marks=pytest.mark.slow),
    ],
)
def test_the_memory_is_enough(media: bool, targets: tuple[str, ...]):
    rows, examples = rows_and_examples(media)
    settings = Settings(3, batch=2, adapter=AdapterSettings("lora", 2, targets=targets))
    model, adapter = built(settings.adapter)
    plan = make_plan(model, adapter, settings, Encoded(examples), Encoded())
    memory, used = plan.memory, most(model, prepare(model, adapter), rows)
    estimated = memory.activations + memory.vocabulary + memory.towers
    assert used < estimated < 20 * used
    kept, widest = tower_memory(model.config, targets, examples, 2)
    assert (widest > 0) == media
    assert (kept > 0) == bool({"vision", "audio"} & set(targets))
    assert memory.towers >= kept


def test_full_training_of_bfloat16_counts_its_float32_weights():
    _, examples = rows_and_examples(False)
    settings = Settings(3, adapter=AdapterSettings("full"))
    found = {}
    for dtype in (mx.float32, mx.bfloat16):
        model, adapter = built(settings.adapter, dtype)
        plan = make_plan(model, adapter, settings, Encoded(examples), Encoded())
        found[dtype] = plan.memory
        state = first_state(prepare(model, adapter))
        held = [p.nbytes for part in (state.first, state.second) for p in part.values()]
        held += [p.nbytes for p in state.parameters.values()]
        gradients = dict.fromkeys(state.parameters, mx.zeros(()))
        later = updated(state, gradients, 1e-3, 0.0)
        assert all(p.dtype == mx.float32 for p in later.parameters.values())
        assert plan.memory.learned > sum(held) == 12 * plan.learned
    # Half as large in bfloat16, but for what is learned: its master is apart.
    learned = plan.learned
    assert found[mx.bfloat16].learned == found[mx.float32].learned - 2 * learned
    assert 2 * found[mx.bfloat16].weights == found[mx.float32].weights + 4 * learned
    assert "--kind lora" in knobs(settings, plan)


def test_what_it_counts():
    _, examples = rows_and_examples(False)
    settings = Settings(14, batch=2, accumulate=1, adapter=AdapterSettings("lora", 2))
    model, adapter = built(settings.adapter)
    held = Encoded(examples[:1])
    plan = make_plan(model, adapter, settings, Encoded(examples), held)
    assert (plan.examples, plan.validation, plan.passes) == (2, 1, 14.0)
    assert plan.tokens == sum(len(e.tokens) for e in examples) and plan.longest == 60
    assert plan.learned == sum(p.size for p in adapter.parameters().values())
    assert plan.as_dict()["memory"]["total"] == plan.memory.total
    assert plan.memory.towers == 0
    assert "--batch 1" in knobs(settings, plan)
