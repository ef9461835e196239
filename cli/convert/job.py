"""The steps of `gemma4 convert`: plan, ask, download, convert, refine, upload."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mlx_gemma4.errors import TakenError
from mlx_gemma4.reading.home import with_home
from mlx_gemma4.reading.sizes import size

from ..errors import UsageError, unread
from ..progress import Progress
from ..render import Screen

if TYPE_CHECKING:
    from mlx_gemma4.convert.job import Result
    from mlx_gemma4.convert.plan import Plan
    from mlx_gemma4.convert.survey import Wishes


def any_plan(source: str, wishes: "Wishes") -> tuple["Plan", Path | None]:
    """The plan, and the source's folder if it needs no download."""
    from mlx_gemma4.convert.hub import headers
    from mlx_gemma4.convert.job import plan_folder
    from mlx_gemma4.convert.survey import make_plan
    from mlx_gemma4.hub.resolve import local_folder

    folder = local_folder(source)
    if folder is not None:
        return plan_folder(folder, wishes, source), folder
    remote = headers(source)
    return make_plan(remote.sources, remote.config, wishes, source), None


def show_plan(plan: "Plan", name: str, screen: Screen) -> None:
    from . import plans

    with unread():
        if screen.as_json:
            screen.json({"plan": plans.as_json(plan, name)})
        else:
            print(plans.table(plan, name), flush=True)
    for warning in plan.warnings:
        screen.note(f"Warning: {warning}")


class Conversion:
    """One conversion, from the plan to the upload."""

    def __init__(
        self, source: str, out: Path, wishes: "Wishes", screen: Screen, yes: bool
    ) -> None:
        self.source, self.out, self.wishes = source, with_home(out), wishes
        self.screen, self.yes = screen, yes

    def run(
        self,
        refine: str | None,
        data: Path | None,
        upload: str | None,
        private: bool,
    ) -> None:
        from mlx_gemma4.convert.output import check_download

        plan, folder = any_plan(self.source, self.wishes)
        show_plan(plan, self.source, self.screen)
        self.check_out()
        if refine is not None and plan.qat:
            raise UsageError(
                "--refine would move the weights off the grid they were trained for."
            )
        if folder is None:
            check_download(self.out, plan.out_bytes, plan.source_bytes)
            self._ask(plan)
            folder = self._download()
            plan = self._plan_again(folder, plan)
        if data is not None:
            from mlx_gemma4.convert.data import read_data

            tokens = read_data(data, folder)  # before the work, not after it
        else:
            tokens = None
        self._convert(folder, plan)
        if refine is not None:
            self._refine(folder, tokens)
        if upload is not None:
            from mlx_gemma4.convert.hub import upload as put

            address = put(self.out, upload, private)
            self._say({"uploaded": address}, f"Uploaded to {address}.")

    def check_out(self) -> None:
        """A finished result of the same settings is recognised later."""
        from mlx_gemma4.convert.card import RECORD
        from mlx_gemma4.convert.output import check_out

        source = with_home(self.source)
        if source.is_dir() and self.out.is_dir() and source.samefile(self.out):
            raise TakenError(f"{self.out} is the model to convert: name another.")
        if not (self.out / RECORD).is_file():
            check_out(self.out)

    def _ask(self, plan: "Plan") -> None:
        if self.yes or self.screen.as_json or not sys.stdin.isatty():
            return
        question = f"Download {plan.source_bytes / 1e9:.1f} GB and convert?"
        if not typer.confirm(question, default=True, err=True):
            raise typer.Exit(0)

    def _download(self) -> Path:
        from ..models.fetch import fetch

        return fetch(self.source, self.screen, yes=True, to_chat=False)

    def _plan_again(self, folder: Path, announced: "Plan") -> "Plan":
        """The Hub's headers do not tell what is measured once the weights are here."""
        from mlx_gemma4.convert.job import plan_folder

        plan = plan_folder(folder, self.wishes, self.source)
        for warning in plan.warnings:
            if warning not in announced.warnings:
                self.screen.note(f"Warning: {warning}")
        return plan

    def _convert(self, folder: Path, plan: "Plan") -> None:
        from mlx_gemma4.convert import job, output, refine

        refine.finish_refining(self.out)
        work = output.partial(self.out)
        bar = Progress(self.screen, "Converting", plan.source_bytes, in_bytes=True)
        try:
            with bar:
                result = job.run(
                    folder,
                    self.out,
                    plan,
                    self.source,
                    bar.advance,
                    note=bar.note,
                )
        except KeyboardInterrupt:
            self.screen.note(f"What is done is kept in {work}: run it again to go on.")
            raise
        self._tell(result)

    def _refine(self, folder: Path, tokens: list[list[int]] | None) -> None:
        from mlx_gemma4.convert.refine import is_refined, refine_dwq

        if is_refined(self.out):
            self.screen.note(f"{self.out} is refined already.")
            return
        self.screen.passing("Refining the scales …")
        try:
            refined = refine_dwq(folder, self.out, tokens=tokens)
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
