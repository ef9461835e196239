"""Drafts for a model with an adapter, and for one that an adapter was fused into."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_assistants
from adapting import filled, write_tunable

from mlx_gemma4 import Gemma4, Processor, load
from mlx_gemma4.assistant.drafter import Drafter
from mlx_gemma4.generation.loop import stream_generate
from mlx_gemma4.hub.drafters import origin
from mlx_gemma4.tune.adapters import put_on
from mlx_gemma4.tune.fuse import fuse


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A model's folder with a drafter in it, in the Hub's cache."""
    root = tmp_path / "models--org--tunable" / "snapshots" / "0"
    root.parent.mkdir(parents=True)
    folder = write_tunable(root)
    config = json.loads((folder / "config.json").read_text())
    own = tiny_assistants.config_dict(config, ordered=False)
    tiny_assistants.write(folder / "assistant", own, seed=2)
    return folder


def check(model: Gemma4, processor: Processor) -> None:
    """Drafts are made, and change nothing."""
    assert isinstance(model.drafter, Drafter)
    drawn: list[dict[str, Any]] = [{"temperature": 0}, {"temperature": 1.0, "seed": 3}]
    for options in drawn:
        asked = {"tokens": [2, 40, 41, 42] * 6, "max_tokens": 8, **options}
        found = {}
        for draft in ("off", "assistant"):
            chunks = list(stream_generate(model, processor, draft=draft, **asked))
            found[draft] = [chunk.token for chunk in chunks]
        assert found["off"] == found["assistant"]
        stats = chunks[-1].stats
        assert stats is not None and stats.drafted


@pytest.mark.slow
def test_an_adapter_that_is_on(source: Path) -> None:
    model, processor = load(source)
    put_on(model, filled(model))
    check(model, processor)


@pytest.mark.slow
def test_one_that_was_fused(source: Path, tmp_path: Path) -> None:
    model, _ = load(source)
    fuse(model, filled(model), source, tmp_path / "out", "bf16")
    assert origin(tmp_path / "out") == "org/tunable"
    check(*load(tmp_path / "out", draft=source / "assistant"))
