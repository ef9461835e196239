"""Recipes: which packing each class of tensors gets.

The classes are treated by what four bits do to them: the head and the values decide
most and have six bits, the body has four in fitted groups of 128, which lose no more
than groups of 64 do without fitting; norms, scalars, clip bounds and the towers are
never touched. The whole is no larger than four bits everywhere in groups of 64.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from mlx_gemma4.checkpoint.packing import (
    AFFINE_BITS,
    AFFINE_GROUPS,
    FLOAT_MODES,
    Packing,
)

from .classes import TensorClass
from .errors import RecipeError

KEEP = "keep"


def affine(bits: int, group_size: int = 64) -> Packing:
    return Packing(bits, group_size, "affine")


@dataclass(frozen=True)
class Recipe:
    """Class -> packing; a class that is not named is kept as it is.

    values: of what attention reads as values: v_proj, and k_proj where keys are the
        values too. None: as the rest of attention.
    warning: said before the work begins.
    """

    name: str
    packings: Mapping[TensorClass, Packing]
    values: Packing | None = None
    warning: str | None = None
    cast: bool = field(default=False, kw_only=True)  # all floats to bfloat16

    def packing(self, kind: TensorClass, is_values: bool = False) -> Packing | None:
        if is_values and self.values is not None:
            return self.values
        return self.packings.get(kind)


def _recipe(
    name: str,
    body: Packing,
    *,
    attention: Packing | None = None,
    fine: Packing | None = None,
    table: Packing | None = None,
    warning: str | None = None,
) -> Recipe:
    """fine: of the head, the values, and the projections of the per-layer table and of
    drafters."""
    fine = fine or affine(6, 128)
    packings = {
        TensorClass.ATTENTION: attention or body,
        TensorClass.MLP: body,
        TensorClass.EXPERTS: body,
        TensorClass.EMBEDDING: fine,
        TensorClass.HEAD: fine,
        TensorClass.PLE_TABLE: table or body,
        TensorClass.PLE_PROJECTION: fine,
        TensorClass.ROUTER: affine(8, 64),
        TensorClass.PROJECTION: fine,
        TensorClass.CENTROIDS: affine(8, 64),  # they choose, as a router does
    }
    return Recipe(name, packings, fine, warning)


LOW = (
    "{} bits lose much of what the model knows: expect wrong facts, loops and broken "
    "code. Prefer a smaller model at 4 bits."
)
TINY = "tiny"
FOUR, EIGHT = affine(4, 128), affine(8, 64)
RECIPES = {
    recipe.name: recipe
    for recipe in (
        _recipe("4bit", FOUR),
        _recipe("6bit", affine(6, 64), fine=EIGHT),
        _recipe("8bit", EIGHT, fine=EIGHT),
        _recipe(
            "3bit",
            affine(3, 64),
            attention=FOUR,
            table=FOUR,
            warning=LOW.format("Three"),
        ),
        _recipe(
            "2bit",
            affine(2, 32),
            attention=FOUR,
            table=FOUR,
            warning=LOW.format("Two"),
        ),
        _recipe(
            TINY,
            affine(3, 128),
            attention=affine(3, 64),
            fine=FOUR,
            table=FOUR,
            warning=LOW.format("Three"),
        ),
        _recipe("mxfp4", Packing(4, 32, "mxfp4"), table=FOUR),
        _recipe("nvfp4", Packing(4, 16, "nvfp4"), table=FOUR),
        _recipe("mxfp8", Packing(8, 32, "mxfp8"), fine=EIGHT, table=EIGHT),
        Recipe("bf16", {}, cast=True),
    )
}
MIXED = "mixed"
MEASURED = (MIXED, TINY)  # what they cost is measured and said before the work
NAMES = (*RECIPES, MIXED)


def recipe_of(name: str) -> Recipe:
    """Raises RecipeError for a name that is none."""
    if name not in RECIPES:
        raise RecipeError(f"There is no recipe {name!r}; there are {', '.join(NAMES)}.")
    return RECIPES[name]


@dataclass(frozen=True)
class Override:
    """`pattern=bits:group`: one packing for all modules whose path matches."""

    pattern: str
    packing: Packing | None

    def matches(self, module: str) -> bool:
        """A pattern is a glob on the whole path, or on its end."""
        return fnmatchcase(module, self.pattern) or fnmatchcase(
            module, f"*.{self.pattern}"
        )


def override(text: str) -> Override:
    """Reads `pattern=4:64`, `pattern=mxfp4` or `pattern=keep`.

    Raises RecipeError.
    """
    pattern, equals, value = text.rpartition("=")
    if not equals or not pattern or not value:
        raise RecipeError(
            f"The override {text!r} is not of the form PATTERN=BITS:GROUP, for example "
            "'*.mlp.down_proj=6:64' or '*.router.proj=keep'."
        )
    if value in (KEEP, "bf16"):
        return Override(pattern, None)
    for (bits, group), mode in FLOAT_MODES.items():
        if value == mode:
            return Override(pattern, Packing(bits, group, mode))
    bits_text, _, group_text = value.partition(":")
    if not bits_text.isdecimal() or not (group_text or "64").isdecimal():
        raise RecipeError(f"{value!r} in the override {text!r} is not BITS:GROUP.")
    bits, group = int(bits_text), int(group_text or "64")
    if bits not in AFFINE_BITS or group not in AFFINE_GROUPS:
        raise RecipeError(
            f"MLX has no {bits} bits in groups of {group}: bits are "
            f"{', '.join(map(str, AFFINE_BITS))}, groups "
            f"{', '.join(map(str, AFFINE_GROUPS))}."
        )
    return Override(pattern, affine(bits, group))


def fitted(packing: Packing, inputs: int) -> tuple[Packing | None, str | None]:
    """The packing that a row of `inputs` weights can have, and why it is another.

    Smaller groups are tried; a row that no group divides stays as it is.
    """
    if inputs % packing.group_size == 0:
        return packing, None
    wanted = f"groups of {packing.group_size} do not divide {inputs} inputs"
    for group in sorted(AFFINE_GROUPS, reverse=True):
        if group < packing.group_size and inputs % group == 0:
            return affine(packing.bits, group), f"{wanted}: groups of {group}"
    return None, f"{wanted}: kept"
