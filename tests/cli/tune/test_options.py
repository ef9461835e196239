"""Options and figures of `gemma4 tune` that are no usable number."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlx_gemma4.cli.render import Screen
from mlx_gemma4.cli.tune.command import app
from mlx_gemma4.cli.tune.telling import Teller
from mlx_gemma4.tune.evaluate import Report
from mlx_gemma4.tune.runs import Run
from mlx_gemma4.tune.settings import Settings
from mlx_gemma4.tune.trainer import Step


@pytest.mark.parametrize(
    "given",
    [
        ("--epochs", "inf"),
        ("--scale", "nan"),
        ("--scale", "-inf"),
        ("--learning-rate", "inf"),
        ("--weight-decay", "inf"),
        ("--image-tokens", "100"),
    ],
)
def test_what_is_no_usable_number_is_a_mistake_of_usage(
    tmp_path: Path, capsys: Any, given: tuple[str, str]
):
    assert app(["a.jsonl", "--dry-run", *given], standalone_mode=False) == 2
    assert f"{given[0]} is {given[1]}" in capsys.readouterr().err


def test_a_loss_that_is_no_number_is_null_in_json():
    values = Report(1, 2, math.nan, 0.0, 0.0).as_dict()
    assert values["loss"] is None and values["perplexity"] is None
    json.dumps(values, allow_nan=False)
    assert Report(1, 2, 0.5, 0.0, 0.0).as_dict()["loss"] == 0.5


def test_steps_that_were_skipped_have_no_loss(tmp_path: Path, capsys: Any):
    run = Run(tmp_path, "", {})
    trainer: Any = SimpleNamespace(
        settings=Settings(steps=1), state=SimpleNamespace(step=0)
    )
    teller = Teller(Screen(), trainer)
    teller.take(Step(1, None, 0.1, math.nan, 8, 4, 0.1), run)
    teller.end(tmp_path)
    told = capsys.readouterr()
    assert "step 1/1  loss none" in told.err
    assert "1 step in" in told.out and "1 of them skipped" in told.out
