"""One of several processes: logits of models of which each holds a part.

Arguments: a file of jobs [{"model": folder, "dtype": …}], and a folder for the results.
"""

import json
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlx_gemma4.checkpoint.load import prepare_model
from mlx_gemma4.model import Gemma4

PROMPT = [(7 * i + 3) % 80 for i in range(40)]
NEXT = (5, 6, 7)


def found(model: Gemma4) -> np.ndarray:
    """Logits of the prompt in two parts and of tokens behind it, one by one."""
    cache, parts = model.make_cache(), [PROMPT[:23], PROMPT[23:], *([t] for t in NEXT)]
    logits = [model(mx.array([part]), cache=cache) for part in parts]
    return np.array(mx.concatenate(logits, axis=1).astype(mx.float32))


def main() -> None:
    group = mx.distributed.init(strict=True, backend="ring")
    jobs, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    for number, job in enumerate(jobs):
        folder, dtype = Path(job["model"]), getattr(mx, job["dtype"])
        prepared = prepare_model(folder, dtype).shared_by(group)
        mx.reset_peak_memory()
        before, model = mx.get_active_memory(), prepared.load()
        peak = mx.get_peak_memory() - before
        runs = job.get("runs", True)
        told = {
            "planned": prepared.footprint.nbytes,
            "held": model.nbytes,
            "peak": peak,
        }
        if runs:
            np.save(out / f"{number}-{group.rank()}.npy", found(model))
        (out / f"{number}-{group.rank()}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
