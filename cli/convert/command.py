"""`gemma4 convert`: the Hub's weights to MLX's, and checking what came out."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import options
from ..errors import UsageError, reported
from ..loading import warnings_noted
from ..options import Panel
from ..render import Screen
from ..usage import names

if TYPE_CHECKING:
    from mlx_gemma4.convert.survey import Wishes

DEFAULT = "4bit"

Source = Annotated[
    str | None,
    typer.Argument(
        help="A folder, a Hub id (owner/name), a short name such as e2b, or demo.",
        show_default=False,
        autocompletion=names.models,
    ),
]
Out = Annotated[
    Path | None, typer.Argument(help="The folder to make.", show_default=False)
]
Recipe = Annotated[
    str | None,
    Panel.TASK.option(
        "--recipe",
        metavar="RECIPE",
        autocompletion=names.recipes,
        help="4bit, 6bit, 8bit, mixed, 3bit, 2bit, tiny, mxfp4, nvfp4, mxfp8 or bf16. "
        "Default: 4bit, or mixed where --target-gb is given.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    Panel.TASK.option(
        "--override",
        metavar="PATTERN=BITS:GROUP",
        help="Another packing for paths that match, such as '*.down_proj=6:64' or "
        "'*.router.proj=keep'. Repeatable; the last that matches decides.",
    ),
]
TargetGb = Annotated[
    float | None,
    Panel.TASK.option(
        "--target-gb",
        min=0.001,
        help="Size of the result: what sizes around it lose is measured and shown, and "
        "the best mix of bits that fits is made.",
    ),
]
Assistant = Annotated[
    str | None,
    Panel.TASK.option(
        "--assistant",
        metavar="DRAFTER",
        help="Also convert the model's drafter, a Hub id or folder, to OUT/assistant, "
        "where it is found.",
    ),
]
DryRun = Annotated[
    bool, Panel.TASK.option("--dry-run", help="Print the plan and stop.")
]
Check = Annotated[
    Path | None,
    Panel.CHECK.option(
        "--check", metavar="DIR", help="Check a converted folder instead."
    ),
]
SourceForCheck = Annotated[
    str | None,
    Panel.CHECK.option(
        "--source-for-check",
        metavar="MODEL",
        help="With --check: also compare the predictions with this model's.",
    ),
]
Upload = Annotated[
    str | None,
    Panel.UPLOAD.option("--upload", metavar="REPO", help="Put the result on the Hub."),
]
Private = Annotated[
    bool, Panel.UPLOAD.option("--private", help="Make the uploaded repository private.")
]
Refine = Annotated[
    str | None,
    Panel.TASK.option(
        "--refine", metavar="METHOD", help="dwq: tune the scales with mlx-lm, slowly."
    ),
]
Data = Annotated[
    Path | None,
    Panel.CHECK.option(
        "--data",
        metavar="FILE",
        help="Your text for --target-gb and --refine, and for --check with a source: "
        'plain, or .jsonl with "text" or "messages". Unset, a short sample in several '
        "languages.",
    ),
]


def convert(
    source: Source = None,
    out: Out = None,
    recipe: Recipe = None,
    override: Overrides = None,
    target_gb: TargetGb = None,
    assistant: Assistant = None,
    dry_run: DryRun = False,
    check: Check = None,
    source_for_check: SourceForCheck = None,
    upload: Upload = None,
    private: Private = False,
    refine: Refine = None,
    data: Data = None,
    as_json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Convert a checkpoint to MLX, quantised; or check a conversion.

    The plan is printed first. A conversion that was stopped goes on where it was when
    the same command is run again.

    Examples:
    gemma4 convert google/gemma-4-E2B-it my-model
    gemma4 convert google/gemma-4-26B-A4B-it my-model --target-gb 14
    gemma4 convert google/gemma-4-E2B-it my-model --target-gb 3 --data mine.jsonl
    gemma4 convert google/gemma-4-E2B-it --recipe 8bit --dry-run
    gemma4 convert google/gemma-4-E2B-it out --assistant google/gemma-4-E2B-it-assistant
    gemma4 convert --check my-model --source-for-check google/gemma-4-E2B-it
    """
    screen = Screen(as_json=as_json)
    with reported(as_json), warnings_noted(screen):
        if check is not None:
            given = (source, out, override, target_gb, dry_run, upload, private)
            given += (refine, assistant)
            check_check_usage(given, recipe, source_for_check, data)
            from .checks import run_check

            run_check(check, source_for_check, data, screen, yes)
            return
        check_usage(source, out, dry_run, source_for_check, refine, upload)
        assert source is not None
        wishes = read_wishes(recipe, override or [], target_gb)
        if data is not None and refine is None and not wishes.is_measured:
            raise UsageError("--data belongs to --target-gb, --refine or --check.")
        if private and upload is None:
            raise UsageError("--private belongs to --upload.")
        if assistant is not None and (out is None or upload is not None):
            raise UsageError(
                "--assistant needs a folder to make, and is not uploaded with it: "
                "convert and upload the drafter by itself."
            )
        from .job import Conversion, preview
        from .sources import original

        source = original(source)
        if out is None:
            preview(source, wishes, data, screen)
            return
        conversion = Conversion(source, out, wishes, screen, yes, data)
        drafter = conversion.beside(assistant) if assistant else None
        if dry_run:
            conversion.preview(drafter)
        else:
            conversion.run(refine, upload, private, drafter)


def check_usage(
    source: str | None,
    out: Path | None,
    dry_run: bool,
    source_for_check: str | None,
    refine: str | None,
    upload: str | None,
) -> None:
    """Raises UsageError for what makes no sense together."""
    if source is None or (out is None and not dry_run):
        raise UsageError(
            "Give a source and a folder to make: gemma4 convert google/gemma-4-E2B-it "
            "out/"
        )
    if source_for_check is not None:
        raise UsageError("--source-for-check belongs to --check.")
    if refine not in (None, "dwq"):
        raise UsageError(f"There is no refinement {refine!r}; there is dwq.")
    if dry_run and (refine or upload):
        raise UsageError("--dry-run converts nothing to refine or upload.")


def check_check_usage(
    given: Sequence[object],
    recipe: str | None,
    source_for_check: str | None,
    data: Path | None,
) -> None:
    """The same with --check. given: what belongs to converting."""
    if any(given) or recipe is not None:
        raise UsageError(
            "--check takes no other source, target or option of a conversion: only "
            "--source-for-check, --data and --json."
        )
    if data is not None and source_for_check is None:
        raise UsageError("--data with --check needs --source-for-check.")


def read_wishes(
    recipe: str | None, overrides: list[str], target_gb: float | None
) -> "Wishes":
    from mlx_gemma4.convert.recipes import MIXED, override, recipe_of
    from mlx_gemma4.convert.survey import Wishes

    if recipe is None:
        recipe = DEFAULT if target_gb is None else MIXED
    if recipe != MIXED:
        recipe_of(recipe)  # before anything is asked of the Hub
    if target_gb is not None and not math.isfinite(target_gb):
        raise UsageError("--target-gb takes a number, such as 4.5.")
    target = None if target_gb is None else round(target_gb * 1e9)
    return Wishes(recipe, tuple(override(text) for text in overrides), target)
