"""Adapters of a model whose per-layer embeddings stay on disk: all as in memory."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import tiny
from adapting import filled, quantised, write_tunable

from mlx_gemma4.checkpoint.load import load_model, prepare_model
from mlx_gemma4.checkpoint.plan import TABLE
from mlx_gemma4.config import Config
from mlx_gemma4.config.ple import Ple
from mlx_gemma4.model import Gemma4
from mlx_gemma4.prompt.processor import Processor
from mlx_gemma4.tune.adapters import AdapterSettings, new_adapter, put_on
from mlx_gemma4.tune.errors import AdapterError
from mlx_gemma4.tune.examples import Encoder, Example
from mlx_gemma4.tune.fuse import fuse
from mlx_gemma4.tune.records import Record
from mlx_gemma4.tune.settings import Rhythm, Settings
from mlx_gemma4.tune.stated import Stated
from mlx_gemma4.tune.tensors import adapter_of
from mlx_gemma4.tune.trainer import Step, Trainer

TOKENS = tiny.random_tokens(20, 3)
NEVER = Rhythm(0, 0, 0)


def both(folder: Path) -> list[Gemma4]:
    models = [prepare_model(folder, ple=p).load() for p in (Ple.MEMORY, Ple.DISK)]
    assert models[1].language_model.table is not None
    return models


@pytest.mark.slow
def test_training(tmp_path: Path) -> None:
    folder = write_tunable(tmp_path)
    encoder = Encoder(
        Processor.from_folder(folder, Config.from_file(folder / "config.json"))
    )
    marks = [i > 4 for i in range(10)]
    examples = [
        Example(tiny.random_tokens(10, seed), marks, Record(f"a:{seed}"))
        for seed in range(3)
    ]
    settings = Settings(2, batch=2, adapter=AdapterSettings("lora", 2))
    losses = []
    for model in both(folder):
        adapter = new_adapter(model, settings.adapter, settings.seed)
        run = Trainer(model, adapter, encoder, settings, examples, ())
        losses.append(
            [event.loss for event in run.run(NEVER) if isinstance(event, Step)]
        )
    assert len(losses[0]) == 2 and losses[0] == losses[1]


def test_an_adapter_that_is_on(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, "E2B")
    found = []
    for model in both(tmp_path):
        put_on(model, filled(model))
        found.append(tiny.logits(model, TOKENS))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("packed", "form"),
    [
        pytest.param(True, "bf16", marks=pytest.mark.slow),
        pytest.param(True, "8bit", marks=pytest.mark.slow),
        pytest.param(False, "8bit", marks=pytest.mark.slow),
        (False, "bf16"),
    ],
)
def test_fused_with_its_table(packed: bool, form: str, tmp_path: Path) -> None:
    source = tmp_path / "model"
    if packed:
        quantised(source, "E2B")
    else:
        tiny.write_checkpoint(source, "E2B")
    written: list[dict[str, Any]] = []
    for number, model in enumerate(both(source)):
        out = tmp_path / str(number)
        fuse(model, filled(model), source, out, form)
        load_model(out)
        tensors: Any = mx.load(str(out / "model.safetensors"))
        written.append(tensors)
    one, other = written
    assert one.keys() == other.keys()
    assert all(mx.array_equal(one[name], other[name]) for name in one)


def test_the_table_itself_is_not_adapted(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, "E2B")
    told = []
    for model in both(tmp_path):
        tensors = {f"{TABLE}.lora_{x}": mx.zeros((2, 2)) for x in "ab"}
        stated = Stated("a", tensors, {name: name for name in tensors})
        with pytest.raises(
            AdapterError, match="embedding table, which is not"
        ) as error:
            adapter_of(model, stated)
        told.append(str(error.value))
    assert told[0] == told[1]
