"""Whether a checkpoint makes a model, and how large: from its headers alone."""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from ..assistant.model import Assistant
from ..config import AssistantConfig, Config, ConfigWarning
from ..errors import CheckpointError
from ..model import Gemma4
from .counts import check_counts, elsewhere, without_missing_parts
from .files import StoredTensor, listed, read_tensors
from .fit import Fit, fit_weights
from .foreign import refuse_foreign

STORED = {"F32": mx.float32, "BF16": mx.bfloat16, "F16": mx.float16}
# The table of per-layer embeddings, which may stay on disk.
TABLE = "language_model.embed_tokens_per_layer"
DTYPES = tuple(STORED.values())
# Of what keeps its type, as it is loaded; all else takes the model's.
BYTES = {"U32": 4, "I32": 4, "I64": 4, "U8": 1}


class MissingTowerWarning(UserWarning):
    """config.json speaks of a tower whose weights the checkpoint does not hold."""


def read_headers(
    folder: Path, config: Config | None = None
) -> tuple[Config, dict[str, StoredTensor]]:
    """What config.json states, less the towers that have no weights and the clipping
    that has no bounds, and all tensors.

    config: what config.json states, if it has been read already.

    Warns with MissingTowerWarning and ConfigWarning. Raises CheckpointError.
    """
    stated = config or Config.from_file(folder / "config.json")
    found = without_missing_parts(stated, read_tensors(folder))
    for tower in found.missing:
        text = f"{folder}: {tower}"
        if files := elsewhere(folder, tower):
            text += f"; {listed(files)} may have them, but is not read"
        warnings.warn(
            f"{text}. The model loads without it, and what needs it is refused.",
            MissingTowerWarning,
            stacklevel=3,
        )
    if found.unclipped:
        warnings.warn(
            f"{folder}: {' and '.join(found.unclipped)} of config.json clip, but the "
            "files hold no bounds: nothing is clipped, as in the reference.",
            ConfigWarning,
            stacklevel=3,
        )
    return found.config, found.tensors


@dataclass(frozen=True)
class LoadPlan:
    """A model of which nothing is evaluated, and the tensors that will fill it."""

    model: Gemma4
    tensors: Mapping[str, StoredTensor]
    fit: Fit


@dataclass(frozen=True)
class AssistantPlan:
    """The same of a drafter."""

    model: Assistant
    tensors: Mapping[str, StoredTensor]
    fit: Fit


def plan_load(config: Config, tensors: Mapping[str, StoredTensor]) -> LoadPlan:
    """Fit `tensors` to the model of `config`, from their headers alone.

    Raises CheckpointError where the model would not load.
    """
    refuse_foreign(config, tensors)
    check_counts(config, tensors)
    with _sizes_checked():
        model = Gemma4(config)
    return LoadPlan(model, tensors, fit_weights(model, tensors))


def plan_assistant(folder: Path) -> AssistantPlan:
    """The same of a drafter's folder. Warns and raises likewise."""
    config = AssistantConfig.from_file(folder / "config.json")
    return fit_assistant(config, read_tensors(folder))


def fit_assistant(
    config: AssistantConfig, tensors: Mapping[str, StoredTensor]
) -> AssistantPlan:
    """`plan_load` of a drafter."""
    refuse_foreign(config, tensors)
    check_counts(config, tensors)
    with _sizes_checked():
        model = Assistant(config)
    return AssistantPlan(model, tensors, fit_weights(model, tensors))


@contextmanager
def _sizes_checked() -> Iterator[None]:
    try:
        yield
    except OverflowError as error:
        raise CheckpointError(
            f"config.json states sizes that no model can have: {error}"
        ) from None


def own_dtype(fit: Fit, tensors: Mapping[str, StoredTensor]) -> mx.Dtype:
    """One dtype for all: a single float32 tensor would turn all that follows it."""
    if mx.default_device().type == mx.DeviceType.cpu:
        return mx.float32
    for parameter in ("embed_tokens.scales", "embed_tokens.weight", "norm.weight"):
        for _, name in fit.sources.get(f"language_model.{parameter}", ()):
            if tensors[name].dtype in STORED:
                return STORED[tensors[name].dtype]
    return mx.bfloat16


@dataclass(frozen=True)
class Footprint:
    """The dtype that weights are loaded in, and the bytes that they take then; `table`
    of these if the table of per-layer embeddings does not stay on disk."""

    dtype: mx.Dtype
    nbytes: int
    table: int = 0

    @property
    def least(self) -> int:
        """The bytes without the table."""
        return self.nbytes - self.table


def footprint(
    plan: LoadPlan | AssistantPlan, dtype: mx.Dtype | None = None
) -> Footprint:
    """What `load` makes of `plan`, by default where no dtype is asked for."""
    dtype = dtype or own_dtype(plan.fit, plan.tensors)
    nbytes, table = 0, 0
    for parameter, sources in plan.fit.sources.items():
        size = sum(_loaded(plan.tensors[name], dtype) for _, name in sources)
        nbytes += size
        table += size if parameter.rpartition(".")[0] == TABLE else 0
    return Footprint(dtype, nbytes, table)


def _loaded(tensor: StoredTensor, dtype: mx.Dtype) -> int:
    return BYTES.get(tensor.dtype, dtype.size) * math.prod(tensor.shape)
