"""Compare the vision and audio towers with mlx-vlm's on the same random checkpoint.

    python benchmarks/compare_towers.py [--layers 2] [--runs 5] [--vlm-python PATH]

The table goes to stdout, progress to stderr. See benchmarks/README.md.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from checkpoint import make as make_text
from compare import machine, say, versions
from implementations import OURS
from measure import THIS_PYTHON, Spent, Worker, WorkerError, has_module
from mlx.utils import tree_flatten
from report import Row, table

from mlx_gemma4.bench.timing import spread

ROOT = Path(__file__).resolve().parent.parent / "build" / "benchmarks"
SCRIPT = Path(__file__).with_name("tower_worker.py")
VLM = "mlx-vlm"
# E2B's and E4B's towers, but for the number of layers: 16 and 12 there.
VISION: dict[str, Any] = {
    **{"model_type": "gemma4_vision", "hidden_size": 768, "intermediate_size": 3072},
    **{"num_attention_heads": 12, "num_key_value_heads": 12, "head_dim": 64},
    **{"hidden_activation": "gelu_pytorch_tanh", "attention_bias": False},
    **{"rms_norm_eps": 1e-6, "patch_size": 16, "pooling_kernel_size": 3},
    "rope_parameters": {"rope_theta": 100.0, "rope_type": "default"},
    **{"position_embedding_size": 10240, "use_clipped_linears": True},
    "standardize": False,
}
AUDIO: dict[str, Any] = {
    **{"model_type": "gemma4_audio", "hidden_size": 1024, "hidden_act": "silu"},
    **{"num_attention_heads": 8, "subsampling_conv_channels": [128, 32]},
    **{"conv_kernel_size": 5, "residual_weight": 0.5, "attention_chunk_size": 12},
    **{"attention_context_left": 13, "attention_context_right": 0},
    **{"attention_logit_cap": 50.0, "use_clipped_linears": True},
    **{"rms_norm_eps": 1e-6, "gradient_clipping": 1e10, "output_proj_dims": 1536},
}
TINY: dict[str, dict[str, Any]] = {
    "vision_config": {
        **{"hidden_size": 48, "intermediate_size": 64, "num_attention_heads": 3},
        **{"num_key_value_heads": 3, "head_dim": 16, "position_embedding_size": 64},
    },
    "audio_config": {
        **{"hidden_size": 64, "num_attention_heads": 4, "output_proj_dims": 32},
        "subsampling_conv_channels": [128, 8],
    },
}
IDS = {"boi_token_id": 7, "eoi_token_id": 8, "boa_token_id": 9, "eoa_token_id": 10}
# What is read: rows and columns of soft tokens, and log-mel frames of 10 ms.
WORK: dict[str, tuple[str, list[int]]] = {
    "picture, 63 soft tokens": ("see", [7, 9]),
    "picture, 260 soft tokens": ("see", [13, 20]),
    "recording, 5 s": ("hear", [499]),
    "recording, 30 s": ("hear", [2999]),
}


class TowerWorker(Worker):
    script = SCRIPT


def parser() -> argparse.ArgumentParser:
    assert __doc__
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--layers", type=int, default=2, help="of each tower")
    p.add_argument("--tiny", action="store_true", help="very small towers instead")
    p.add_argument("--runs", type=int, default=5, metavar="N")
    p.add_argument("--work", nargs="+", choices=WORK, default=list(WORK))
    p.add_argument("--vlm-python", default=THIS_PYTHON, metavar="PATH")
    p.add_argument("--folder", type=Path, default=ROOT, help="where checkpoints go")
    p.add_argument("--json", action="store_true", help="everything measured, as JSON")
    return p


def make(root: Path, layers: int, tiny: bool) -> Path:
    """A checkpoint of a very small text model with towers of `layers` layers."""
    from mlx_gemma4.config import Config
    from mlx_gemma4.model import Gemma4

    folder = root / f"{'tiny-' if tiny else ''}towers-{layers}"
    text = make_text(root, "tiny", "float32", None)
    config = json.loads((text / "config.json").read_text()) | IDS
    for key, tower in (("vision_config", VISION), ("audio_config", AUDIO)):
        changes = TINY[key] if tiny else {}
        config[key] = {**tower, **changes, "num_hidden_layers": layers}
    stated = json.dumps(config, indent=1)
    path = folder / "config.json"
    if path.is_file() and path.read_text() == stated:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    parameters: Any = tree_flatten(Gemma4(Config.from_dict(config)).parameters())
    mx.random.seed(0)
    tensors = {f"model.{name}": _random(name, a.shape) for name, a in parameters}
    mx.save_safetensors(
        str(folder / "model.safetensors"), tensors, metadata={"format": "pt"}
    )
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        (folder / name).write_bytes((text / name).read_bytes())
    path.write_text(stated)  # last: a cut-off write starts again
    return folder


def _random(name: str, shape: tuple[int, ...]) -> mx.array:
    """Values that keep hidden states of order 1 and within the clip bounds."""
    if not shape:
        return mx.array(-20.0 if name.endswith("min") else 20.0)
    if len(shape) == 1:
        size = 0.4 if name.endswith(("q_norm.weight", "k_norm.weight")) else 1.0
        return mx.random.uniform(0.5, 1.5, shape) * size
    fan_in = max(int(np.prod(shape[1:])), 1) if len(shape) == 4 else shape[-1]
    return mx.random.normal(shape, scale=fan_in**-0.5)


def measure(
    workers: Sequence[Worker], work: Sequence[str], runs: int, folder: Path
) -> tuple[dict[str, dict[str, list[Spent]]], dict[str, float]]:
    """Seconds of every program at every work, and how far results are apart, relative
    to the largest value. The first, uncounted, call of each warms up."""
    spent = {w: {worker.name: list[Spent]() for worker in workers} for w in work}
    results: dict[str, float] = {}
    for number in range(runs + 1):
        say(f"round {number} of {runs}" if number else "warming up")
        for label in work:
            method, sizes = WORK[label]
            for worker in workers[:: -1 if number % 2 else 1]:
                file = str(folder / f"{worker.name}.npy")
                took = Spent(**worker.ask(method, *sizes, file))
                if number:
                    spent[label][worker.name].append(took)
            ours, *others = (np.load(folder / f"{w.name}.npy") for w in workers)
            for theirs in others:
                results[label] = float(np.abs(ours - theirs).max() / np.abs(ours).max())
    return spent, results


def rows(spent: dict[str, dict[str, list[Spent]]]) -> list[Row]:
    made = []
    for label, samples in spent.items():
        for kind in ("cpu", "wall"):
            values = {
                n: [getattr(s, kind) for s in each] for n, each in samples.items()
            }
            ratios = {
                name: spread([t / o for t, o in zip(each, values[OURS], strict=True)])
                for name, each in values.items()
                if name != OURS
            }
            unit = "CPU s" if kind == "cpu" else "s"
            found = {name: spread(each) for name, each in values.items()}
            made.append(Row(f"{label}, {unit}", found, ratios))
    return made


def run(options: argparse.Namespace) -> None:
    pythons = {OURS: THIS_PYTHON}
    if has_module(options.vlm_python, "mlx_vlm"):
        pythons[VLM] = options.vlm_python
    else:
        say("mlx-vlm is not installed there and left out; see --vlm-python.")
    folder = make(options.folder.resolve(), options.layers, options.tiny)
    workers: list[Worker] = []
    try:
        for name, python in pythons.items():
            workers.append(TowerWorker(name, python, folder, "float32"))
        with tempfile.TemporaryDirectory() as results:
            spent, apart = measure(workers, options.work, options.runs, Path(results))
    finally:
        for worker in workers:
            worker.close()
    lines = rows(spent)
    about = {**machine(), **versions(pythons), "layers": options.layers}
    if options.json:
        seconds = {
            work: {n: [vars(s) for s in each] for n, each in programs.items()}
            for work, programs in spent.items()
        }
        print(
            json.dumps({"about": about, "seconds": seconds, "apart": apart}, indent=1)
        )
        return
    print(", ".join(f"{key} {value}" for key, value in about.items()), end="\n\n")
    print(table(lines))
    for label, difference in apart.items():
        print(f"{label}: results at most {difference:.1g} of the largest value apart")


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        run(parser().parse_args(arguments))
    except WorkerError as error:
        say(f"compare_towers.py: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
