"""Adapters as PEFT makes, saves and loads them, on the reference's tiny models."""

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_model
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_configs import config_dict
from tiny_tensors import random_tensor

SEED = 20


def save(folder: Path, variant: str, **lora: Any) -> None:
    """An adapter of random numbers, none of them zero, as save_pretrained writes it."""
    model = torch_model.build(config_dict(variant), SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, LoraConfig(**lora))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_magnitude" in name:
                parameter *= 1.1
            elif "lora_" in name:
                values = random_tensor(name, tuple(parameter.shape), SEED)
                parameter.copy_(torch.from_numpy(values) / 2)
    adapted.save_pretrained(str(folder))
    (folder / "README.md").unlink()


def logits(folder: Path, variant: str, tokens: list[int]) -> np.ndarray:
    """[L, vocab] of the model with the adapter that PEFT loads from `folder`."""
    model = copy.deepcopy(torch_model.build(config_dict(variant), SEED))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = PeftModel.from_pretrained(model, str(folder))
    return torch_model.logits(adapted.eval(), tokens)


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "adapter_config.json").read_text())
