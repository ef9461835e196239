"""Compare the vision and audio towers with mlx-vlm's on the same random checkpoint.

    python benchmarks/compare_towers.py [--layers 2] [--runs 5] [--vlm-python PATH]

The table goes to stdout, progress to stderr. See README.md here.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from checkpoint import make as make_text
from mlx.utils import tree_flatten
from programs import (
    BUILD,
    MLX_VLM,
    OURS,
    THIS_PYTHON,
    failed,
    has_module,
    machine,
    say,
    start,
    versions,
)
from report import Row, row, table

from mlx_gemma4.bench.child import Spent
from mlx_gemma4.bench.rounds import take_rounds
from mlx_gemma4.bench.worker import Worker
from mlx_gemma4.errors import PeerError

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


def parser() -> argparse.ArgumentParser:
    assert __doc__
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--layers", type=int, default=2, help="of each tower")
    p.add_argument("--tiny", action="store_true", help="very small towers instead")
    p.add_argument("--runs", type=int, default=5, metavar="N")
    p.add_argument("--work", nargs="+", choices=WORK, default=list(WORK))
    p.add_argument("--vlm-python", default=THIS_PYTHON, metavar="PATH")
    p.add_argument("--folder", type=Path, default=BUILD, help="where checkpoints go")
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
    workers: Mapping[str, Worker], label: str, runs: int, folder: Path
) -> tuple[dict[str, list[Spent]], float | None]:
    """Seconds of every program, and how far results are apart, relative to the largest
    value. The first, uncounted, call of each warms up."""
    method, sizes = WORK[label]
    files = {name: str(folder / f"{name}.npy") for name in workers}

    def call(name: str) -> Callable[[int], Spent]:
        return lambda number: Spent(**workers[name].ask(method, *sizes, files[name]))

    calls = {name: call(name) for name in workers}
    say(f"{label}: a warm-up and {runs} rounds")
    spent = {n: each[1:] for n, each in take_rounds(calls, range(runs + 1)).items()}
    ours, *others = (np.load(file) for file in files.values())
    apart = [np.abs(ours - theirs).max() / np.abs(ours).max() for theirs in others]
    return spent, float(apart[0]) if apart else None


def rows(label: str, spent: Mapping[str, list[Spent]]) -> list[Row]:
    return [
        row(f"{label}, CPU s", {n: [s.cpu for s in each] for n, each in spent.items()}),
        row(f"{label}, s", {n: [s.wall for s in each] for n, each in spent.items()}),
    ]


def run(options: argparse.Namespace) -> None:
    pythons = {OURS: THIS_PYTHON}
    if has_module(options.vlm_python, "mlx_vlm"):
        pythons[MLX_VLM] = options.vlm_python
    else:
        say(
            "mlx-vlm is not installed there and left out: pip install mlx-vlm, or see "
            "--vlm-python."
        )
    folder = make(options.folder.resolve(), options.layers, options.tiny)
    spent: dict[str, dict[str, list[Spent]]] = {}
    apart: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as results, ExitStack() as stack:
        workers = {
            name: stack.enter_context(
                start(name, "towers", name, folder, python=python)
            )
            for name, python in pythons.items()
        }
        for work in options.work:
            spent[work], far = measure(workers, work, options.runs, Path(results))
            apart |= {} if far is None else {work: far}
    about = {**machine(), **versions(pythons), "layers": options.layers}
    if options.json:
        found = {"about": about, "seconds": spent, "apart": apart}
        print(json.dumps(found, indent=1, default=vars))
        return
    print(", ".join(f"{key} {value}" for key, value in about.items()), end="\n\n")
    print(table([line for label, each in spent.items() for line in rows(label, each)]))
    for label, difference in apart.items():
        print(f"{label}: results at most {difference:.1g} of the largest value apart")


def main() -> int:
    try:
        run(parser().parse_args())
    except PeerError as error:
        return failed(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
