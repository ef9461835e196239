"""The work of a conversion, behind a bar, and what is said of the result."""

from pathlib import Path
from typing import TYPE_CHECKING

from mlx_gemma4.checkpoint.folders import RECORD
from mlx_gemma4.errors import ModelNotFoundError
from mlx_gemma4.reading.sizes import size

from ..progress import Progress
from ..render import Screen

if TYPE_CHECKING:
    from mlx_gemma4.convert.choice import Choice
    from mlx_gemma4.convert.job import Result
    from mlx_gemma4.convert.plan import Plan
    from mlx_gemma4.convert.source import Source


def make(
    source: "Source",
    out: Path,
    plan: "Plan",
    name: str,
    screen: Screen,
    choice: "Choice | None" = None,
) -> "Result":
    """The work itself, behind a bar; says how to go on where it is stopped."""
    from mlx_gemma4.convert import job, output, refine
    from mlx_gemma4.convert.choice import keep

    refine.finish_refining(out)
    work = output.partial(out)
    if choice is not None and not (out / RECORD).is_file():
        keep(choice, out)
    record = None if choice is None else choice.record
    total = sum(t.source_bytes for t in job.left_to_do(plan, out))
    bar = Progress(screen, "Converting", total, in_bytes=True)
    try:
        with bar:
            given = source, out, plan, name, bar.advance
            return job.run(*given, note=bar.note, choice=record)
    except (KeyboardInterrupt, ModelNotFoundError):
        screen.note(f"What is done is kept in {work}: run it again to go on.")
        raise


def refine(
    folder: Path, out: Path, tokens: list[list[int]] | None, screen: Screen
) -> None:
    """Tunes the scales of `out`, once.

    folder: of its source. tokens: the user's text.
    """
    from mlx_gemma4.convert.refine import is_refined, refine_dwq

    if is_refined(out):
        screen.note(f"{out} is refined already.")
        return
    screen.passing("Refining the scales …")
    try:
        refined = refine_dwq(folder, out, tokens=tokens)
    finally:
        screen.passed()
    before, after = refined.before.kl_mean, refined.after.kl_mean
    kept = "kept" if refined.kept else "no better, so the first result is kept"
    screen.note(f"Refined: mean KL {before:.4f} -> {after:.4f}, {kept}.")


def tell(result: "Result", screen: Screen) -> None:
    plan = result.plan
    text = f"{result.folder}: {size(plan.out_bytes)}"
    text += f", {plan.bits_per_weight:.2f} bits per weight."
    if result.complete_before:
        text = f"{result.folder} is complete already."
    if result.groups:
        share = result.on_grid / result.groups
        text += f" {share:.2%} of {result.groups:,} groups are on the trained grid."
    value = {
        "folder": str(result.folder),
        "bytes": plan.out_bytes,
        "bits_per_weight": round(plan.bits_per_weight, 4),
        "complete_before": result.complete_before,
        "resumed": result.resumed,
        "on_grid_groups": result.on_grid,
        "groups": result.groups,
    }
    say(value, text, screen)


def say(value: dict[str, object], text: str, screen: Screen) -> None:
    if screen.as_json:
        screen.json(value)
    else:
        print(text, flush=True)
