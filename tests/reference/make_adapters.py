"""Writes tests/fixtures/adapters: folders as PEFT saves them, and the logits with them.

    PYTHONPATH=tests/support python tests/reference/make_adapters.py [CASE …]

Needs the extra `reference`. `experts-turned` is written only by a PEFT before 0.19.1,
which took the inputs of experts for their outputs, and all others only by a later one.
"""

import sys
from typing import Any

import numpy as np
import torch
import torch_adapters
from make_fixtures import FIXTURES
from tiny_tensors import random_tokens

FOLDER = FIXTURES / "adapters"
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("E2B", {"r": 2, "lora_alpha": 3, "target_modules": ALL}),
    "patterns": (
        "E2B",
        {
            "r": 2,
            "lora_alpha": 4,
            "use_rslora": True,
            "target_modules": ["q_proj", "down_proj", "per_layer_input_gate"],
            "rank_pattern": {r"layers\.[02]\.self_attn\.q_proj": 3, "down_proj": 1},
            "alpha_pattern": {r".*layers\.1\..*": 9, "q_proj": 1, "gate": 2},
        },
    ),
    "dora": (
        "E4B",
        {"r": 2, "use_dora": True, "target_modules": ["q_proj", "up_proj"]},
    ),
    "layers": (
        "31B",
        {
            "r": 1,
            "target_modules": ["q_proj", "o_proj", "up_proj"],
            "layers_to_transform": [0, 2, 3],
            "exclude_modules": ["layers.2.self_attn.q_proj"],
        },
    ),
    "all-linear": ("text", {"r": 1, "target_modules": "all-linear"}),
    "experts": (
        "26B-A4B",
        {
            "r": 2,
            "lora_alpha": 6,
            "target_modules": ["q_proj"],
            "target_parameters": EXPERTS,
            "rank_pattern": {"experts.down_proj": 1},
        },
    ),
    "one-of-experts": (
        "26B-A4B",
        {"r": 3, "target_modules": [], "target_parameters": EXPERTS[1:]},
    ),
    "experts-turned": (
        "26B-A4B",
        {"r": 2, "target_modules": ["q_proj"], "target_parameters": EXPERTS},
    ),
}


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    file = FOLDER / "logits.npz"
    found: dict[str, np.ndarray] = {}
    if file.exists():
        with np.load(file) as arrays:
            found = dict(arrays)
    for name in names:
        variant, lora = CASES[name]
        torch_adapters.save(FOLDER / name, variant, **lora)
        tokens = random_tokens(20, torch_adapters.SEED)
        found[name] = torch_adapters.logits(FOLDER / name, variant, tokens)
    np.savez_compressed(file, allow_pickle=False, **found)


if __name__ == "__main__":
    main(sys.argv[1:] or [name for name in CASES if name != "experts-turned"])
