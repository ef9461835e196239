"""Weights of Gemma 4 that are there and still no model: named, with what to do.

Two kinds: an adapter's parts between the weights they change, and weights that another
program than MLX has packed. Of these the tensors decide: what config.json says of a
packing also stays there when weights were unpacked and saved again.
"""

import re
import warnings
from collections.abc import Mapping
from typing import Any

from ..config import AssistantConfig, Config, ConfigWarning
from ..errors import CheckpointError
from .files import FLOATS, StoredTensor
from .names import ORDER, place

ADAPTER = re.compile(
    r"(?:.*\.)?(?:lora_\w+|base_layer|modules_to_save|original_module)(?:\..*)?",
    re.DOTALL,
)
# What Google's packed QAT checkpoints state, which `gemma4 convert` imports.
IMPORTED = (("compressed-tensors", "pack-quantized"), ("gemma", None))
# The last part of a tensor's name -> whose packing it belongs to.
PARTS = {
    **dict.fromkeys(("qweight", "qzeros", "g_idx"), "AWQ or GPTQ"),
    **dict.fromkeys(("absmax", "quant_map"), "bitsandbytes"),
    **dict.fromkeys(
        ("weight_scale_inv", "weight_scale_2", "input_scale"), "FP8 or FP4"
    ),
    "weight_packed": "compressed-tensors",
    "weight_scale": "another program",
}
ORIGINAL = "use an MLX conversion, or the unquantised original."


def refuse_foreign(
    config: Config | AssistantConfig, tensors: Mapping[str, StoredTensor]
) -> None:
    """Raises CheckpointError that names what the weights are.

    Warns with ConfigWarning of a packing that is stated of plain weights.
    """
    _refuse_adapter(tensors)
    stated = config.quantization or {}
    method = stated.get("quant_method")
    if method and method != "mlx":
        if are_plain(tensors):
            warnings.warn(
                f"config.json says the model is quantised by {method!r}"
                f"{_details(stated)}, but all its tensors are plain: they are read as "
                "they are.",
                ConfigWarning,
                stacklevel=3,
            )
            return
        if (method, _format(stated)) in IMPORTED:
            raise CheckpointError(_importable(method, tensors))
        raise CheckpointError(
            f"config.json says the model is quantised by {method!r}{_details(stated)}, "
            f"which is not read: {ORIGINAL}"
        )
    for name, tensor in tensors.items():
        program = PARTS.get(name.rpartition(".")[2])
        if program or tensor.dtype.startswith("F8"):
            raise CheckpointError(
                f"{name}, {tensor.dtype} {tensor.shape}, is a part of weights that "
                f"{program or 'another program'} has packed, which are not read: "
                f"{ORIGINAL}"
            )


def are_plain(tensors: Mapping[str, StoredTensor]) -> bool:
    """Whether there are tensors, and none that is a packing or a part of one."""
    return bool(tensors) and all(
        tensor.dtype in FLOATS and name.rpartition(".")[2] not in PARTS
        for name, tensor in tensors.items()
        if place(name).parameter != ORDER
    )


def _refuse_adapter(tensors: Mapping[str, StoredTensor]) -> None:
    found = [name for name in tensors if ADAPTER.fullmatch(name)]
    if found:
        raise CheckpointError(
            f"{found[0]} belongs to an adapter that is not merged into the weights, "
            f"with {len(found)} tensors of {len(tensors)}: merge it and save the model "
            "again (PEFT: merge_and_unload), or give the base model and the adapter's "
            "folder with --adapter."
        )


def _format(stated: Mapping[str, Any]) -> Any:
    return stated.get("format") if stated["quant_method"] != "gemma" else None


def _details(stated: Mapping[str, Any]) -> str:
    """What some programs say beside their name: a format, an algorithm."""
    said = [stated[key] for key in ("format", "quant_algo") if stated.get(key)]
    return f" ({', '.join(map(str, said))})" if said else ""


def _importable(method: str, tensors: Mapping[str, StoredTensor]) -> str:
    file = next((tensor.file for tensor in tensors.values()), None)
    folder = file.parent if file is not None else "FOLDER"
    return (
        f"config.json says the model is packed by {method!r}, as Google's QAT "
        "checkpoints are. Convert it first, which keeps its steps: `gemma4 convert "
        f"{folder} OUT`. Then use OUT."
    )
