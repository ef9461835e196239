"""The steps of `gemma4 convert`: plan, ask, convert, refine, upload."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_gemma4.checkpoint.folders import RECORD
from mlx_gemma4.errors import ModelNotFoundError, TakenError
from mlx_gemma4.reading.home import with_home
from mlx_gemma4.reading.sizes import size

from ..errors import UsageError, unread
from ..models.fetch import agree, fetch
from ..progress import Progress
from ..render import Screen

if TYPE_CHECKING:
    from mlx_gemma4.convert.choice import Choice
    from mlx_gemma4.convert.job import Result
    from mlx_gemma4.convert.plan import Plan
    from mlx_gemma4.convert.source import Source
    from mlx_gemma4.convert.survey import Wishes

    Planned = tuple[Source, Plan]


def original(name: str) -> str:
    """What is to be converted or compared with: a short name stands for a Hub id."""
    from mlx_gemma4.hub import names

    # os.path, since Path.is_file raises for names that are too long.
    there = os.path.isfile(with_home(name) / "config.json")
    return name if there else names.original(name)


def open_source(name: str, out: Path | None, screen: Screen) -> "Source":
    """What is to be converted; of a Hub id that is not here no more than its headers.

    A conversion into `out` that was stopped goes on with the commit that it began with.
    """
    from mlx_gemma4.convert.journal import begun
    from mlx_gemma4.convert.output import partial
    from mlx_gemma4.convert.remote import remote
    from mlx_gemma4.convert.source import local
    from mlx_gemma4.hub.resolve import local_folder

    folder = local_folder(name)
    if folder is not None:
        return local(folder)
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # it would write between our lines
    before = None if out is None else begun(partial(out))
    screen.passing(f"Asking the Hub for {name} …")
    try:
        same = before is not None and before.source == name
        return remote(name, before.commit if before and same else None)
    finally:
        screen.passed()


def planned(
    name: str, out: Path | None, wishes: "Wishes", screen: Screen
) -> tuple["Source", "Plan"]:
    """A source, and what becomes of it; weights at the Hub are not read."""
    from mlx_gemma4.convert.job import plan_source

    source = open_source(name, out, screen)
    return source, plan_source(source, wishes, name, measure=not source.at_hub)


def show_plan(plan: "Plan", name: str, screen: Screen) -> None:
    from . import plans

    with unread():
        if screen.as_json:
            screen.json({"plan": plans.as_json(plan, name)})
        else:
            print(plans.table(plan, name), flush=True)
    for warning in plan.warnings:
        screen.note(f"Warning: {warning}")


def preview(name: str, wishes: "Wishes", data: Path | None, screen: Screen) -> None:
    """What would be made of `name`, shown."""
    from .offers import choose

    source, plan = planned(name, None, wishes, screen)
    if wishes.is_measured and not source.at_hub:
        plan = choose(source, None, wishes, name, data, screen).plan
    show_plan(plan, name, screen)
    _say_unmeasured(source, wishes, screen)


def _say_unmeasured(source: "Source", wishes: "Wishes", screen: Screen) -> None:
    if wishes.is_measured and source.at_hub:
        screen.note(
            "Estimated from headers. What it loses is measured when the weights are "
            "here: run it without --dry-run, or `gemma4 pull` the source before."
        )


class Conversion:
    """One conversion, from the plan to the upload."""

    def __init__(
        self,
        source: str,
        out: Path,
        wishes: "Wishes",
        screen: Screen,
        yes: bool,
        data: Path | None = None,
    ) -> None:
        """data: the user's own text, to refine or to measure sizes on."""
        self.source, self.out, self.wishes = source, with_home(out), wishes
        self.screen, self.yes, self.data = screen, yes, data

    def beside(self, drafter: str) -> "Conversion":
        """That of a drafter, by a name, into the folder that the model will have."""
        from mlx_gemma4.convert.drafters import recipe_beside
        from mlx_gemma4.convert.survey import Wishes
        from mlx_gemma4.hub.drafters import INSIDE

        wishes = Wishes(recipe_beside(self.wishes.recipe))
        return Conversion(drafter, self.out / INSIDE, wishes, self.screen, self.yes)

    def run(
        self,
        refine: str | None,
        upload: str | None,
        private: bool,
        drafter: "Conversion | None" = None,
    ) -> None:
        """drafter: is converted as well. Both are looked at before any work on one."""
        own, other = self.plans(drafter, refine)
        own = self._opened(*own, refine)
        if drafter is not None and other is not None:
            other = drafter._opened(*other)
        self._carry_out(*own, refine)
        if drafter is not None and other is not None:
            drafter._carry_out(*other)
        if upload is not None:
            from mlx_gemma4.convert.hub import upload as put

            address = put(self.out, upload, private)
            self._say({"uploaded": address}, f"Uploaded to {address}.")

    def plans(
        self, drafter: "Conversion | None", refine: str | None = None
    ) -> tuple["Planned", "Planned | None"]:
        """The plan, and that of a drafter.

        Raises CheckpointError where the drafter was not made for the model.
        """
        own = self.plan(refine)
        if drafter is None:
            return own, None
        from mlx_gemma4.config import AssistantConfig, Config

        other = drafter.plan()
        configs = [
            folder / "config.json" for folder in (other[0].folder, own[0].folder)
        ]
        config, model = (
            AssistantConfig.from_file(configs[0]),
            Config.from_file(configs[1]),
        )
        config.check_pair(model, drafter.source, self.source)
        return own, other

    def plan(self, refine: str | None = None) -> "Planned":
        """What it is made of and becomes, shown; weights at the Hub are not read."""
        from mlx_gemma4.hub.resolve import is_drafter

        source, plan = planned(self.source, self.out, self.wishes, self.screen)
        if source.at_hub or not self.wishes.is_measured:
            show_plan(plan, self.source, self.screen)
        self.check_out()
        if refine is not None and is_drafter(source.folder):
            raise UsageError("--refine is for models: a drafter has no predictions.")
        if refine is not None and plan.qat:
            raise UsageError(
                "--refine would move the weights off the grid they were trained for."
            )
        return source, plan

    def _opened(
        self, source: "Source", plan: "Plan", refine: str | None = None
    ) -> "Planned":
        """The same when what is to be fetched was asked for."""
        if not source.at_hub:
            return source, plan
        if refine is not None or self.wishes.is_measured:
            source = self._download(plan)
        elif not (self.out / RECORD).is_file():
            self._ask(source, plan)
        if self.wishes.is_measured:
            return source, plan
        return source, self.measured(source, plan)

    def _carry_out(
        self,
        source: "Source",
        plan: "Plan",
        refine: str | None = None,
    ) -> None:
        if refine is not None and self.data is not None:
            from mlx_gemma4.convert.data import read_data

            # before the work, not after it
            tokens = read_data(self.data, source.folder)
        else:
            tokens = None
        choice = self.choose(source) if self.wishes.is_measured else None
        self._tell(self.convert(source, choice.plan if choice else plan, choice))
        if refine is not None:
            self._refine(source.folder, tokens)

    def check_out(self) -> None:
        """A finished result of the same settings is recognised later."""
        from mlx_gemma4.convert.output import check_out

        source = with_home(self.source)
        if source.is_dir() and self.out.is_dir() and source.samefile(self.out):
            raise TakenError(f"{self.out} is the model to convert: name another.")
        if not (self.out / RECORD).is_file():
            check_out(self.out)

    def _ask(self, source: "Source", plan: "Plan") -> None:
        from mlx_gemma4.convert.job import to_fetch
        from mlx_gemma4.convert.output import check_space

        check_space(self.out, plan.out_bytes)
        count = to_fetch(plan, source, self.out)
        told = [f"Fetching {size(count)}, of which {size(plan.out_bytes)} are kept."]
        agree(told, count, self.source, self.screen, self.yes)

    def _download(self, plan: "Plan") -> "Source":
        """All of the source, which stays: a refinement computes with it."""
        from mlx_gemma4.convert.output import check_download
        from mlx_gemma4.convert.source import local

        check_download(self.out, plan.out_bytes, plan.source_bytes)
        return local(fetch(self.source, self.screen, self.yes, to_chat=False))

    def measured(self, source: "Source", announced: "Plan") -> "Plan":
        """The Hub's headers do not tell all: samples of weights that were trained for a
        grid are read."""
        from mlx_gemma4.convert.job import plan_source

        self.screen.passing("Looking for the grid of the weights …")
        try:
            plan = plan_source(source, self.wishes, self.source)
        finally:
            self.screen.passed()
        for warning in plan.warnings:
            if warning not in announced.warnings:
                self.screen.note(f"Warning: {warning}")
        return plan

    def preview(self, drafter: "Conversion | None") -> None:
        """What would be made, shown; nothing is fetched or written."""
        (source, _), _ = self.plans(drafter)
        if self.wishes.is_measured and not source.at_hub:
            self.choose(source, dry=True)
        _say_unmeasured(source, self.wishes, self.screen)

    def choose(self, source: "Source", dry: bool = False) -> "Choice":
        """What is measured to be best, shown with its plan."""
        from . import offers

        given = self.wishes, self.source, self.data, self.screen
        found = offers.choose(source, None if dry else self.out, *given)
        show_plan(found.plan, self.source, self.screen)
        return found

    def convert(
        self, source: "Source", plan: "Plan", choice: "Choice | None" = None
    ) -> "Result":
        """The work itself, behind a bar; says how to go on where it is stopped."""
        from mlx_gemma4.convert import job, output, refine
        from mlx_gemma4.convert.choice import keep

        refine.finish_refining(self.out)
        work = output.partial(self.out)
        if choice is not None and not (self.out / RECORD).is_file():
            keep(choice, self.out)
        record = None if choice is None else choice.record
        total = sum(t.source_bytes for t in job.left_to_do(plan, self.out))
        bar = Progress(self.screen, "Converting", total, in_bytes=True)
        try:
            with bar:
                given = source, self.out, plan, self.source, bar.advance
                return job.run(*given, note=bar.note, choice=record)
        except (KeyboardInterrupt, ModelNotFoundError):
            self.screen.note(f"What is done is kept in {work}: run it again to go on.")
            raise

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
