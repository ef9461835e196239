"""adapter_config.json of mlx-lm's changed in many ways, beside mlx-lm itself.

A changed file may do one of three things: compute what mlx-lm computes with it, change
nothing where mlx-lm cannot load it, or be refused with the key in the error.
"""

import json
import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import tiny
from adapting import filled

from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.tune.adapters import put_on
from mlx_gemma4.tune.errors import AdapterError, AdapterWarning
from mlx_gemma4.tune.formats import read_adapter, write_adapter

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

TOKENS = tiny.random_tokens(20, 3)
BAR = 1e-3
INVENTED = "new_trick"
SEED = 8
COUNT = 60
WRONG = (None, True, False, 0, 1, 2, 3, -1, 0.5, "x", "", [], {}, [1], ["x"], {"a": 1})
LAYERS = "language_model.model.layers."
LIKELY: dict[str, tuple[Any, ...]] = {
    "fine_tune_type": ("lora", "dora", "full", "LoRA"),
    "num_layers": (1, 3, 10, 16, 99, -1, "3"),
    "scale": (20.0, 0, -1.5, 1e6, "2", True, float("nan"), float("inf")),
    "keys": (
        *(["self_attn.q_proj"], ["self_attn.q_proj", "mlp.up_proj"], ["q_proj"]),
        [f"{LAYERS}2.self_attn.q_proj", "mlp.down_proj"],
    ),
    "rank": (2, 3, 64),
    "alpha": (16,),
}
INSIDE = ("rank", "scale", "dropout", "keys", "alpha")


def mutations() -> list[tuple[str, Any]]:
    """Every likely value, and a draw of all keys with all sorts of values."""
    draw = random.Random(SEED)
    every = ["fine_tune_type", "num_layers", "lora_parameters", *INSIDE, INVENTED]
    found = [(key, value) for key, values in LIKELY.items() for value in values]
    return found + [(draw.choice(every), draw.choice(WRONG)) for _ in range(COUNT)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and an adapter of it beside it."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny.write_checkpoint(folder / "model", "E2B")
    model = load_model(folder / "model")
    write_adapter(folder / "adapter", model, filled(model), {"model": "tiny"})
    return folder


def peer_logits(model: Path, adapter: Path) -> np.ndarray | None:
    """None where mlx-lm cannot load the folder."""
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load_model as load_theirs

    theirs, _ = load_theirs(model, model_config={"vocab_size": 96})
    try:
        theirs = load_adapters(theirs, str(adapter))
        theirs.eval()
        return np.array(theirs(mx.array([TOKENS]))[0])
    except Exception:
        return None


def our_logits(model: Path, adapter: Path) -> np.ndarray:
    loaded = load_model(model)
    put_on(loaded, read_adapter(adapter, loaded))
    return tiny.logits(loaded, TOKENS)


@pytest.mark.parametrize(
    "key, value",
    [pytest.param(*each, id=f"{i}-{each[0]}") for i, each in enumerate(mutations())],
)
def test_a_changed_file(key: str, value: Any, tmp_path: Path, checkpoint: Path):
    folder = tmp_path / "adapter"
    shutil.copytree(checkpoint / "adapter", folder)
    path = folder / "adapter_config.json"
    stated = json.loads(path.read_text())
    (stated["lora_parameters"] if key in INSIDE else stated)[key] = value
    path.write_text(json.dumps(stated))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AdapterWarning)
            found = our_logits(checkpoint / "model", folder)
    except AdapterError as error:
        told = str(error)
        # Whole parameters are another thing altogether.
        assert key in told or (value == "full" and "lora_a" in told)
        return
    unchanged = our_logits(checkpoint / "model", checkpoint / "adapter")
    off = value is None or value is False or value in ("", [], {})
    if off and np.abs(found - unchanged).max() <= BAR:
        return  # as if the key was not there
    expected = peer_logits(checkpoint / "model", folder)
    if expected is None or not np.isfinite(expected).all():
        expected = unchanged
    assert np.abs(found - expected).max() <= BAR
