"""From headers to a plan: nothing of the weights is read, but for samples of QAT files.

The source is compared with its config.json first, so that a missing or misshapen tensor
is named before any work.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlx_gemma4.checkpoint.copies import Copy, copy_of
from mlx_gemma4.checkpoint.counts import Present, without_missing_parts
from mlx_gemma4.checkpoint.files import FLOATS, WHOLE, StoredTensor
from mlx_gemma4.checkpoint.foreign import refuse_foreign
from mlx_gemma4.checkpoint.names import (
    ORDER,
    Place,
    in_layer,
    is_unused,
    mlx_names,
    place,
)
from mlx_gemma4.checkpoint.plan import fit_assistant, plan_load
from mlx_gemma4.config import FULL, AssistantConfig, Config
from mlx_gemma4.config.assistant import is_assistant
from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.reading.neutral import not_obeyed

from . import qat
from .classes import KEPT, TensorClass, class_of
from .drafters import check_recipe
from .errors import RecipeError
from .mixed import Harm, mix
from .overrides import MATRICES, overridden, with_packing
from .plan import Dropped, Joined, Plan, Reason, TensorPlan
from .recipes import MEASURED, MIXED, Override, Recipe, affine, recipe_of

# Share of groups on the trained grid above which a tensor is imported on it.
ON_GRID = 0.5
GRID_BITS, GRID_GROUP = 4, 32
# What is trained for the grid in Q4_0 files.
TRAINED = (TensorClass.ATTENTION, TensorClass.MLP, TensorClass.EXPERTS)
HEAD, TABLE = "lm_head.weight", "language_model.embed_tokens.weight"

Sampler = Callable[[StoredTensor], float]  # share of a tensor's groups on the Q4_0 grid


@dataclass(frozen=True)
class Wishes:
    """What the user asks for.

    target_bytes: of the whole result, for `mixed`. harm: that was measured for it.
    """

    recipe: str = "4bit"
    overrides: tuple[Override, ...] = ()
    target_bytes: int | None = None
    harm: Harm | None = None

    @property
    def is_measured(self) -> bool:
        """Whether what the result loses is measured before it is made."""
        return self.recipe in MEASURED


def make_plan(
    sources: Mapping[str, StoredTensor],
    config: Mapping[str, Any],
    wishes: Wishes,
    name: str,
    sample: Sampler | None = None,
) -> Plan:
    """The plan for `sources` and their config.json.

    name: of the source, which is all that tells some QAT weights from others.
    sample: measures a tensor; None trusts the name, for files not yet there.

    Raises CheckpointError and RecipeError.
    """
    layout = qat.recognise(sources, dict(config), name)
    found = _present(config, sources, wishes)
    parsed = found.config
    if layout not in qat.PACKED:
        refuse_foreign(parsed, sources)
    joined, dropped = _joined(found.tensors, layout, config)
    _check(joined, parsed)
    dropped += [
        Dropped(sources[name], Reason.TOWER)
        for tower in found.missing
        for name in tower.left_out
    ]
    copies = _copies(joined, parsed)
    repeated = {copy.tensor.name for copy in copies}
    recipe = recipe_of("6bit" if wishes.recipe == MIXED else wishes.recipe)
    warnings = [recipe.warning] if recipe.warning else []
    warnings += [
        f"In the source {tower}. The result has none." for tower in found.missing
    ]
    if layout in qat.PACKED:
        warnings += _unknown(config)
        if qat.rounds(config["quantization_config"]):
            warnings.append(qat.ROUNDED)
    on_grid = layout if layout and wishes.recipe == "4bit" else None
    if layout and not on_grid:
        _refuse_packed(joined, wishes.recipe)
    if layout == qat.Q4_0 and wishes.recipe == MIXED:
        on_grid = layout  # to be kept where there is room
    if layout and not on_grid:
        warnings.append(
            f"This source was trained for 4 bits; {wishes.recipe} does not keep its "
            "grid. The recipe 4bit does."
        )
    tensors = []
    for item in joined:
        if next(iter(item.sources.values())).name in repeated:
            dropped += _dropped(item, Reason.TIED)
        elif is_unused(parsed, located(item.name).parameter):
            dropped += _dropped(item, Reason.UNREAD)
        else:
            tensors.append(_tensor(item, parsed, recipe, on_grid, sample))
    if on_grid == qat.Q4_0 and sample is not None:
        warnings += _off_grid(tensors)
    if wishes.recipe == MIXED:
        tensors = mix(tensors, wishes.target_bytes, wishes.harm)
    elif wishes.target_bytes is not None:
        raise RecipeError("--target-gb belongs to --recipe mixed.")
    tensors = overridden(tensors, wishes.overrides)
    return Plan(
        wishes.recipe,
        tuple(tensors),
        tuple(dropped),
        layout,
        found.unclipped,
        tuple(warnings),
        tuple(copies),
    )


def _present(
    config: Mapping[str, Any], sources: Mapping[str, StoredTensor], wishes: Wishes
) -> Present[Config] | Present[AssistantConfig]:
    if not is_assistant(config.get("model_type")):
        return without_missing_parts(Config.from_dict(config), sources)
    check_recipe(wishes.recipe)
    return Present(AssistantConfig.from_dict(config), dict(sources))


def _unknown(config: Mapping[str, Any]) -> list[str]:
    keys = qat.unknown_keys(config["quantization_config"])
    return [not_obeyed("quantization_config", keys)] if keys else []


def _copies(joined: Iterable[Joined], config: Config | AssistantConfig) -> list[Copy]:
    """The tensors of a head that is stored though it is tied, not compared yet."""
    if not config.text_config.tie_word_embeddings:
        return []
    found = {place(item.name).parameter: item for item in joined}
    if HEAD not in found:
        return []
    head, table = (found[name].sources.values() for name in (HEAD, TABLE))
    # Stored in different ways, already their first tensors differ.
    return [copy_of(part, other) for part, other in zip(head, table, strict=False)]


def _dropped(item: Joined, reason: Reason) -> list[Dropped]:
    return [Dropped(source, reason) for source in item.sources.values()]


def _joined(
    sources: Mapping[str, StoredTensor], layout: str | None, config: Mapping[str, Any]
) -> tuple[list[Joined], list[Dropped]]:
    if layout is not None and layout in qat.PACKED:
        return qat.join(sources, layout, config)
    whole = [
        Joined(name, {"weight": source}, source.shape)
        for name, source in sources.items()
    ]
    for name, source in sources.items():
        if source.dtype not in (WHOLE if _is_order(name) else FLOATS):
            raise CheckpointError(
                f"{name} is of type {source.dtype}: this checkpoint is quantised "
                "already. Convert the original instead."
            )
    return whole, []


def _is_order(name: str) -> bool:
    """Whether a tensor holds ids, which no recipe may change."""
    return place(name).parameter == ORDER


def _check(joined: Iterable[Joined], config: Config | AssistantConfig) -> None:
    """Every tensor the model needs is there, once and in its shape."""
    stored = {
        item.name: StoredTensor(item.name, Path(), _plain_dtype(item), item.shape)
        for item in joined
    }
    plain = replace(config, quantization=None)
    if isinstance(plain, AssistantConfig):
        fit_assistant(plain, stored)
    else:
        plan_load(plain, stored)


def _plain_dtype(item: Joined) -> str:
    """Of the floating values: the weight's, or of the scales of a packed one."""
    if _is_order(item.name):
        return item.sources["weight"].dtype
    return next((s.dtype for s in item.sources.values() if s.dtype in FLOATS), "BF16")


def _refuse_packed(joined: Iterable[Joined], recipe: str) -> None:
    packed = [item for item in joined if item.packing is not None]
    if packed:
        raise RecipeError(
            f"{packed[0].name} is stored in {packed[0].packing}, which {recipe} cannot "
            "start from: use the recipe 4bit, or the unquantised source."
        )


def _tensor(
    item: Joined,
    config: Config | AssistantConfig,
    recipe: Recipe,
    layout: str | None,
    sample: Sampler | None,
) -> TensorPlan:
    where = located(item.name)
    kind, dtype = class_of(where.parameter), _plain_dtype(item)
    names = mlx_names(where, config.text_only)
    bare = TensorPlan(
        kind=kind,
        sources=item.sources,
        shape=item.shape,
        dtype=_kept_as(dtype, recipe),
        packing=item.packing,
        grid=item.grid,
        modules=tuple(name.removesuffix(".weight") for name in names),
    )
    if item.grid is not None:  # packed: by its training, or a tower to be unpacked
        return bare if item.packing else with_packing(bare, None, item.grid)
    is_matrix = where.parameter.endswith(".weight")
    if layout == qat.Q4_0 and is_matrix and _is_trained(bare, sample):
        return with_packing(bare, affine(GRID_BITS, GRID_GROUP), grid=qat.Q4_0)
    wanted = recipe.packing(kind, _is_values(bare, config))
    return with_packing(bare, wanted if len(item.shape) >= MATRICES else None)


def _kept_as(dtype: str, recipe: Recipe) -> str:
    cast = dtype in FLOATS and (dtype == "F32" or recipe.cast)
    return "BF16" if cast else dtype


def located(name: str) -> Place:
    """`place`, refusing experts stored one by one, which are not joined here."""
    where = place(name)
    if where.expert is not None:
        raise CheckpointError(
            f"{name} is a single expert: join the experts into one tensor per layer, "
            "as Google's files have them."
        )
    return where


def _off_grid(tensors: list[TensorPlan]) -> list[str]:
    """A warning if matrices of the body do not lie on the grid the name promises."""
    body = [t for t in tensors if t.kind in TRAINED and t.is_plain]
    off = [t.name for t in body if t.grid is None]
    if not off:
        return []
    return [
        f"{len(off)} of {len(body)} matrices do not lie on the Q4_0 grid that the "
        f"source's name promises, {off[0]} for one: they are fitted anew."
    ]


def _is_trained(tensor: TensorPlan, sample: Sampler | None) -> bool:
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


def _is_values(tensor: TensorPlan, config: Config | AssistantConfig) -> bool:
    """What attention reads as values: keys too, in layers that have no others."""
    module, text = tensor.modules[0], config.text_config
    found = in_layer(module)
    if found is None or module.endswith(".v_proj"):
        return found is not None
    if not text.attention_k_eq_v or not module.endswith(".k_proj"):
        return False
    return text.layer_types[found[0]] == FULL
