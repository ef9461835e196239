"""The benchmark of tables on disk: it writes a model, and compares the two ways."""

import importlib
import json
from pathlib import Path

import pytest
import tiny
from places import BENCHMARKS

from mlx_gemma4.config.ple import Ple

pytestmark = pytest.mark.skipif(
    not BENCHMARKS.is_dir(), reason="benchmarks/ is not beside the tests"
)
WIDE = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 32}


@pytest.mark.slow
def test_both_ways_of_a_model_that_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("ple")
    config = tiny.config_dict("E2B", hidden_size_per_layer_input=32, **WIDE)
    source, folder = tmp_path / "gemma-4-E2B-it", tmp_path / "made"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(config))
    shapes = {name: list(shape) for name, shape in tiny.tensor_shapes(config).items()}
    (source / "tensors.json").write_text(json.dumps(shapes))
    monkeypatch.setattr(benchmark, "REAL", tmp_path)
    benchmark.make(folder, "E2B")
    found = {str(ple): benchmark.answer(folder, ple, 5, 2) for ple in Ple}
    looked = benchmark.lookups(folder, 3)
    assert set(looked) == {"memory", "disk"}
    told = benchmark._told(found | {"table": {"bytes": 1}, "lookups": looked})
    assert "Logits are equal to the bit." in told
    found["disk"]["logits"] = "others"
    told = benchmark._told(found | {"table": {"bytes": 1}, "lookups": looked})
    assert "DIFFERENT" in told
