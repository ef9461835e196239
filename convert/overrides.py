"""The packing of single tensors: the nearest that their rows allow, and overrides."""

from dataclasses import replace

from mlx_gemma4.checkpoint.packing import Packing

from .classes import KEPT
from .errors import RecipeError
from .plan import TensorPlan
from .recipes import Override, fitted

MATRICES = 2  # dimensions


def with_packing(
    tensor: TensorPlan, packing: Packing | None, grid: str | None = None
) -> TensorPlan:
    """The tensor in this packing, or in the nearest that its rows allow."""
    note = None
    if packing is not None:
        packing, note = fitted(packing, tensor.inputs)
    return replace(tensor, packing=packing, grid=grid, note=note)


def overridden(
    tensors: list[TensorPlan], overrides: tuple[Override, ...]
) -> list[TensorPlan]:
    """Overrides in turn; the last that matches decides."""
    for override in overrides:
        matched = False
        for i, tensor in enumerate(tensors):
            found = any(override.matches(module) for module in tensor.modules)
            if found and _can_be_packed(tensor):
                matched = True
                tensors[i] = with_packing(tensor, override.packing)
        if not matched:
            raise RecipeError(
                f"The override {override.pattern!r} matches no weight that can be "
                "quantised. Paths look like language_model.model.layers.0.mlp.up_proj."
            )
    return tensors


def _can_be_packed(tensor: TensorPlan) -> bool:
    """Plain matrices but the towers', which no loader expects to be packed."""
    plain = tensor.is_plain and tensor.kind not in KEPT
    return plain and len(tensor.shape) >= MATRICES
