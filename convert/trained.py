"""Which weights of a source lie on the grid that it was trained for."""

from collections.abc import Callable, Iterable, Sequence

from mlx_gemma4.checkpoint.files import StoredTensor

from . import qat
from .classes import KEPT, TensorClass
from .errors import RecipeError
from .overrides import MATRICES
from .plan import Joined, TensorPlan
from .recipes import MIXED

# Share of groups on the trained grid above which a tensor is imported on it.
ON_GRID = 0.5
GRID_GROUP = 32
# What is trained for the grid in Q4_0 files.
TRAINED = (TensorClass.ATTENTION, TensorClass.MLP, TensorClass.EXPERTS)

Sampler = Callable[[StoredTensor], float]  # share of a tensor's groups on the Q4_0 grid


def kept_grid(layout: str | None, recipe: str, joined: Iterable[Joined]) -> str | None:
    """The layout whose grid stays; for `mixed` it may, where there is room.

    Raises RecipeError where the recipe cannot start from what is stored.
    """
    if layout is None or recipe == "4bit":
        return layout
    _refuse_packed(joined, recipe)
    return layout if layout == qat.Q4_0 and recipe == MIXED else None


def _refuse_packed(joined: Iterable[Joined], recipe: str) -> None:
    packed = [item for item in joined if item.packing is not None]
    if packed:
        raise RecipeError(
            f"{packed[0].name} is stored in {packed[0].packing}, which {recipe} cannot "
            "start from: use the recipe 4bit, or the unquantised source."
        )


def off_grid(tensors: Sequence[TensorPlan]) -> list[str]:
    """A warning if matrices of the body do not lie on the grid the name promises."""
    body = [t for t in tensors if t.kind in TRAINED and t.is_plain]
    off = [t.name for t in body if t.grid is None]
    if not off:
        return []
    return [
        f"{len(off)} of {len(body)} matrices do not lie on the Q4_0 grid that the "
        f"source's name promises, {off[0]} for one: they are fitted anew."
    ]


def is_trained(tensor: TensorPlan, sample: Sampler | None) -> bool:
    """Whether a tensor of Q4_0-trained weights lies on that grid."""
    if tensor.kind is TensorClass.NORM or len(tensor.shape) < MATRICES:
        return False
    if tensor.kind in KEPT and len(tensor.shape) > MATRICES:  # a convolution
        return False
    if tensor.inputs % GRID_GROUP:
        return False
    if sample is not None:
        return sample(tensor.first) >= ON_GRID
    # Not measured yet: what Google's own Q4_0 files have on it.
    return tensor.kind in TRAINED
