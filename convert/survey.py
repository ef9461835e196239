"""From headers to a plan: nothing of the weights is read, but for samples of QAT files.

The source is compared with its config.json first, so that a missing or misshapen tensor
is named before any work.
"""

from collections.abc import Iterable, Mapping
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
from .classes import class_of
from .drafters import check_recipe
from .errors import RecipeError
from .mixed import mix, refuse_ample
from .overrides import MATRICES, overridden, with_packing
from .plan import Dropped, Joined, Plan, Reason, TensorPlan
from .recipes import MEASURED, MIXED, Override, Recipe, affine, recipe_of
from .trained import GRID_GROUP, Sampler, is_trained, kept_grid, off_grid

HEAD, TABLE = "lm_head.weight", "language_model.embed_tokens.weight"


@dataclass(frozen=True)
class Wishes:
    """What the user asks for.

    target_bytes: of the whole result, for `mixed`.
    """

    recipe: str = "4bit"
    overrides: tuple[Override, ...] = ()
    target_bytes: int | None = None

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
    used, unused = _used(joined, parsed, copies)
    grid = kept_grid(layout, wishes.recipe, joined)
    recipe = recipe_of("6bit" if wishes.recipe == MIXED else wishes.recipe)
    tensors = [_tensor(item, parsed, recipe, grid, sample) for item in used]
    warnings = [recipe.warning] if recipe.warning else []
    warnings += [
        f"In the source {tower}. The result has none." for tower in found.missing
    ]
    warnings += _of_layout(layout, config, wishes.recipe, grid)
    if grid == qat.Q4_0 and sample is not None:
        warnings += off_grid(tensors)
    return Plan(
        wishes.recipe,
        tuple(_packed(tensors, wishes, sources)),
        tuple(dropped + unused),
        layout,
        found.unclipped,
        tuple(warnings),
        tuple(copies),
    )


def _packed(
    tensors: list[TensorPlan], wishes: Wishes, sources: Mapping[str, StoredTensor]
) -> list[TensorPlan]:
    """What the wishes beyond the recipe make of its packings."""
    if wishes.recipe != MIXED:
        if wishes.target_bytes is not None:
            raise RecipeError("--target-gb belongs to --recipe mixed.")
        return overridden(tensors, wishes.overrides)
    if wishes.target_bytes is not None:
        whole = sum(source.nbytes for source in sources.values())
        refuse_ample(tensors, wishes.target_bytes, wishes.overrides, whole)
    return mix(tensors, wishes.target_bytes, overrides=wishes.overrides)


def _used(
    joined: Iterable[Joined],
    config: Config | AssistantConfig,
    copies: Iterable[Copy],
) -> tuple[list[Joined], list[Dropped]]:
    """What the model reads, and what it does not."""
    repeated = {copy.tensor.name for copy in copies}
    used, unused = list[Joined](), list[Dropped]()
    for item in joined:
        if next(iter(item.sources.values())).name in repeated:
            unused += _dropped(item, Reason.TIED)
        elif is_unused(config, located(item.name).parameter):
            unused += _dropped(item, Reason.UNREAD)
        else:
            used.append(item)
    return used, unused


def _of_layout(
    layout: str | None, config: Mapping[str, Any], recipe: str, grid: str | None
) -> list[str]:
    """Warnings about weights that were trained for a grid."""
    found = list[str]()
    if layout in qat.PACKED:
        found += _unknown(config)
        if qat.rounds(config["quantization_config"]):
            found.append(qat.ROUNDED)
    if layout and not grid:
        found.append(
            f"This source was trained for 4 bits; {recipe} does not keep its grid. The "
            "recipe 4bit does."
        )
    return found


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
    if layout == qat.Q4_0 and is_matrix and is_trained(bare, sample):
        return with_packing(bare, affine(4, GRID_GROUP), grid=qat.Q4_0)
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


def _is_values(tensor: TensorPlan, config: Config | AssistantConfig) -> bool:
    """What attention reads as values: keys too, in layers that have no others."""
    module, text = tensor.modules[0], config.text_config
    found = in_layer(module)
    if found is None or module.endswith(".v_proj"):
        return found is not None
    if not text.attention_k_eq_v or not module.endswith(".k_proj"):
        return False
    return text.layer_types[found[0]] == FULL
