"""Writes tests/fixtures/drafters.npz: first rounds of the reference's drafters.

    PYTHONPATH=tests/support python tests/reference/make_drafters.py

Outputs only: the weights of models and drafters are drawn anew from `tiny_assistants`.
"""

import numpy as np
import tiny_assistants
import torch
import torch_assistant
import torch_model
from make_fixtures import SEED, save


def drafters() -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for variant in tiny_assistants.KINDS:
        for name, (config, prompt) in tiny_assistants.prompts(variant, SEED).items():
            ordered = variant in tiny_assistants.ORDERED
            own = tiny_assistants.config_dict(config, ordered)
            model = torch_model.build(config, SEED)
            drafter = torch_assistant.build(own, SEED)
            made = torch_assistant.first_round(model, drafter, config, prompt.padded)
            found |= {f"{variant}.{name}.{key}": each for key, each in made.items()}
    return found


def main() -> None:
    torch.set_num_threads(1)
    save("drafters", drafters())


if __name__ == "__main__":
    main()
