"""Several processes' parts of a model make the whole model's logits."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import launching
import layouts
import mlx.core as mx
import numpy as np
import part_worker
import pytest
import tiny

from mlx_gemma4.checkpoint.load import load_model

pytestmark = pytest.mark.slow
SHAPES = ("E2B", "E4B", "12B", "26B-A4B", "31B")
# So that groups of 32 divide the parts of two processes, and some not those of four.
SIZES = {"intermediate_size": 96, "head_dim": 32, "global_head_dim": 32}


@dataclass(frozen=True)
class Job:
    """runs: MLX has no bfloat16 for experts that are not packed on a CPU."""

    folder: Path
    dtype: str
    runs: bool = True

    @property
    def told(self) -> dict[str, Any]:
        return {"model": str(self.folder), "dtype": self.dtype, "runs": self.runs}


def packed(folder: Path, variant: str) -> Path:
    """A checkpoint with all maps of the decoder in 4 bits."""
    config = tiny.config_dict(variant, **SIZES)
    if variant == "26B-A4B":
        config["text_config"]["moe_intermediate_size"] = 32

    def settings(module: str) -> dict[str, Any] | None:
        map_of_layer = ".layers." in module and "language_model" in module
        inputs = tensors.get(f"{module}.weight", tensors.get(module))
        fits = map_of_layer and inputs is not None and inputs.shape[-1] % 32 == 0
        return {"group_size": 32, "bits": 4} if fits else None

    tensors = layouts.random_arrays(config)
    return layouts.save(folder, config, layouts.packed(tensors, settings)[0])


@pytest.mark.parametrize("count", [2, 4])
def test_logits_and_memory(tmp_path: Path, count: int) -> None:
    jobs: list[Job] = []
    for shape in SHAPES:
        plain = tmp_path / shape
        tiny.write_checkpoint(plain, shape, seed=3)
        jobs += [Job(plain, "float32"), Job(plain, "bfloat16", shape != "26B-A4B")]
        jobs.append(Job(packed(tmp_path / f"{shape}-4", shape), "float32"))
    told = tmp_path / "jobs.json"
    told.write_text(json.dumps([job.told for job in jobs]))
    arguments = [part_worker.__file__, str(told), str(tmp_path)]
    ends = launching.finish(launching.start(count, arguments, tmp_path))
    assert [code for code, *_ in ends] == [0] * count, ends
    for number, job in enumerate(jobs):
        sizes = [
            json.loads((tmp_path / f"{number}-{rank}.json").read_text())
            for rank in range(count)
        ]
        whole = load_model(job.folder, getattr(mx, job.dtype))
        for size in sizes:
            assert size["held"] == size["planned"] < 0.8 * whole.nbytes
        if not job.runs:
            continue
        found = [np.load(tmp_path / f"{number}-{rank}.npy") for rank in range(count)]
        assert all(np.array_equal(each, found[0]) for each in found)
        assert np.isfinite(found[0]).all()
        if job.dtype == "float32":
            np.testing.assert_allclose(
                found[0], part_worker.found(whole), atol=1e-4, rtol=0
            )
