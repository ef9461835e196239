"""`gemma4 convert`: the Hub's weights to MLX's, and checking what came out."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .errors import FAILED, UsageError, report, reported
from .render import Screen, size
from .transfer import Bar

if TYPE_CHECKING:
    from mlx_gemma4.convert.job import Result
    from mlx_gemma4.convert.plan import Plan
    from mlx_gemma4.convert.survey import Wishes

Source = Annotated[
    str | None,
    typer.Argument(
        help="A folder, a Hub id (owner/name), or demo.", show_default=False
    ),
]
Out = Annotated[
    Path | None, typer.Argument(help="The folder to make.", show_default=False)
]
Recipe = Annotated[
    str,
    typer.Option(
        "--recipe",
        help="4bit, 6bit, 8bit, mixed, 3bit, 2bit, mxfp4, nvfp4, mxfp8 or bf16.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--override",
        metavar="PATTERN=BITS:GROUP",
        help="Another packing for paths that match, such as '*.down_proj=6:64' or "
        "'*.router.proj=keep'. Repeatable; the last that matches decides.",
    ),
]
TargetGb = Annotated[
    float | None,
    typer.Option("--target-gb", min=0.001, help="Size of the result, for mixed."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and stop; loads nothing.")
]
Check = Annotated[
    Path | None,
    typer.Option("--check", metavar="DIR", help="Check a converted folder instead."),
]
SourceForCheck = Annotated[
    str | None,
    typer.Option(
        "--source-for-check",
        metavar="MODEL",
        help="With --check: also compare the predictions with this model's.",
    ),
]
Upload = Annotated[
    str | None,
    typer.Option("--upload", metavar="REPO", help="Put the result on the Hub."),
]
Private = Annotated[
    bool, typer.Option("--private", help="Make the uploaded repository private.")
]
Refine = Annotated[
    str | None,
    typer.Option(
        "--refine", metavar="METHOD", help="dwq: tune the scales with mlx-lm, slowly."
    ),
]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Download and convert without asking.")
]


def convert(
    source: Source = None,
    out: Out = None,
    recipe: Recipe = "4bit",
    override: Overrides = None,
    target_gb: TargetGb = None,
    dry_run: DryRun = False,
    check: Check = None,
    source_for_check: SourceForCheck = None,
    upload: Upload = None,
    private: Private = False,
    refine: Refine = None,
    as_json: options.Json = False,
    yes: Yes = False,
) -> None:
    """Convert a checkpoint to MLX, quantised; or check a conversion.

    The plan is printed first. A conversion that was stopped goes on where it was when
    the same command is run again.
    """
    with reported(as_json), explained(as_json):
        screen = Screen(as_json=as_json)
        if check is not None:
            if source is not None or out is not None:
                raise UsageError("--check takes no other source or target.")
            from .checks import run_check

            run_check(check, source_for_check, screen)
            return
        check_usage(source, out, dry_run, source_for_check, refine)
        assert source is not None
        wishes = read_wishes(recipe, override or [], target_gb)
        if dry_run:
            show_plan(any_plan(source, wishes)[0], source, screen)
            return
        assert out is not None
        Job(source, out, wishes, screen, yes).run(refine, upload, private)


@contextmanager
def explained(as_json: bool) -> Iterator[None]:
    """Gives the converter's own errors their exit codes."""
    from mlx_gemma4.convert.errors import OutputError
    from mlx_gemma4.convert.recipes import RecipeError

    try:
        yield
    except RecipeError as error:
        raise UsageError(str(error)) from None
    except OutputError as error:
        raise typer.Exit(report(FAILED, str(error), None, as_json)) from None


def check_usage(
    source: str | None,
    out: Path | None,
    dry_run: bool,
    source_for_check: str | None,
    refine: str | None,
) -> None:
    if source is None or (out is None and not dry_run):
        raise UsageError(
            "Give a source and a folder to make: gemma4 convert google/gemma-4-E2B-it "
            "out/"
        )
    if source_for_check is not None:
        raise UsageError("--source-for-check belongs to --check.")
    if refine not in (None, "dwq"):
        raise UsageError(f"There is no refinement {refine!r}; there is dwq.")


def read_wishes(recipe: str, overrides: list[str], target_gb: float | None) -> "Wishes":
    from mlx_gemma4.convert.recipes import NAMES, RecipeError, override
    from mlx_gemma4.convert.survey import Wishes

    if recipe not in NAMES:
        raise RecipeError(
            f"There is no recipe {recipe!r}; there are {', '.join(NAMES)}."
        )
    target = None if target_gb is None else round(target_gb * 1e9)
    return Wishes(recipe, tuple(override(text) for text in overrides), target)


def any_plan(source: str, wishes: "Wishes") -> tuple["Plan", Path | None]:
    """The plan, and the source's folder if it needs no download."""
    from mlx_gemma4.convert.hub import headers, local_folder
    from mlx_gemma4.convert.job import plan_folder
    from mlx_gemma4.convert.survey import make_plan

    folder = local_folder(source)
    if folder is not None:
        return plan_folder(folder, wishes, source), folder
    remote = headers(source)
    return make_plan(remote.sources, remote.config, wishes, source), None


def show_plan(plan: "Plan", name: str, screen: Screen) -> None:
    from . import plans

    if screen.as_json:
        screen.json({"plan": plans.as_json(plan, name)})
    else:
        print(plans.table(plan, name), flush=True)
    for warning in plan.warnings:
        screen.note(f"Warning: {warning}")


class Job:
    """One conversion, from the plan to the upload."""

    def __init__(
        self, source: str, out: Path, wishes: "Wishes", screen: Screen, yes: bool
    ) -> None:
        self.source, self.out, self.wishes = source, out.expanduser(), wishes
        self.screen, self.yes = screen, yes

    def run(self, refine: str | None, upload: str | None, private: bool) -> None:
        from mlx_gemma4.convert.output import check_space

        plan, folder = any_plan(self.source, self.wishes)
        show_plan(plan, self.source, self.screen)
        self._check_out()
        if refine is not None and plan.qat:
            raise UsageError(
                "--refine would move the weights off the grid they were trained for."
            )
        if folder is None:
            check_space(self.out, plan.out_bytes, plan.source_bytes)
            self._ask(plan)
            folder = self._download()
        self._convert(folder, refine)
        if upload is not None:
            from mlx_gemma4.convert.hub import upload as put

            address = put(self.out, upload, private)
            self._say({"uploaded": address}, f"Uploaded to {address}.")

    def _check_out(self) -> None:
        """A finished result of the same settings is recognised later."""
        from mlx_gemma4.convert.output import RECORD, check_out

        if not (self.out / RECORD).is_file():
            check_out(self.out)

    def _ask(self, plan: "Plan") -> None:
        if self.yes or self.screen.as_json or not sys.stdin.isatty():
            return
        question = f"Download {plan.source_bytes / 1e9:.1f} GB and convert?"
        if not typer.confirm(question, default=True, err=True):
            raise typer.Exit(0)

    def _download(self) -> Path:
        from mlx_gemma4.hub import resolve

        return resolve(self.source)

    def _convert(self, folder: Path, refine: str | None) -> None:
        from mlx_gemma4.convert import job, output

        plan = job.plan_folder(folder, self.wishes, self.source)
        work = output.partial(self.out)
        bar = Bar("Converting", plan.source_bytes, quiet=self.screen.as_json)
        try:
            with bar:
                result = job.run(
                    folder,
                    self.out,
                    plan,
                    self.source,
                    bar.advance,
                    note=self.screen.note,
                )
        except KeyboardInterrupt:
            self.screen.note(f"What is done is kept in {work}: run it again to go on.")
            raise
        for warning in result.warnings:
            self.screen.note(f"Warning: {warning}")
        if refine is not None and not result.complete_before:
            self._refine(folder)
        self._tell(result)

    def _refine(self, folder: Path) -> None:
        from mlx_gemma4.convert.refine import refine_dwq

        self.screen.passing("Refining the scales …")
        try:
            refined = refine_dwq(folder, self.out)
        finally:
            self.screen.passed()
        before, after = refined.before.kl_mean, refined.after.kl_mean
        kept = "kept" if refined.kept else "no better, so the first result is kept"
        self.screen.note(f"Refined: mean KL {before:.4f} -> {after:.4f}, {kept}.")

    def _tell(self, result: "Result") -> None:
        plan = result.plan
        text = f"{self.out}: {size(plan.out_bytes)}"
        text += f", {plan.bits_per_weight:.2f} bits per weight."
        if result.complete_before:
            text = f"{self.out} is complete already."
        if result.groups:
            share = result.on_grid / result.groups
            text += f" {share:.2%} of {result.groups:,} groups are on the trained grid."
        value = {
            "folder": str(self.out),
            "bytes": plan.out_bytes,
            "bits_per_weight": round(plan.bits_per_weight, 4),
            "complete_before": result.complete_before,
            "resumed": result.resumed,
            "on_grid_groups": result.on_grid,
            "groups": result.groups,
        }
        self._say(value, text)

    def _say(self, value: dict[str, object], text: str) -> None:
        if self.screen.as_json:
            self.screen.json(value)
        else:
            print(text, flush=True)
