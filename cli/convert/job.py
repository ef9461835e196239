"""The steps of `gemma4 convert`: plan, ask, convert, refine, upload."""

from pathlib import Path
from typing import TYPE_CHECKING

from mlx_gemma4.checkpoint.folders import RECORD
from mlx_gemma4.errors import TakenError
from mlx_gemma4.reading.home import with_home
from mlx_gemma4.reading.sizes import size

from ..errors import UsageError
from ..models.fetch import agree, fetch
from ..render import Screen
from . import making
from .sources import measured, planned

if TYPE_CHECKING:
    from mlx_gemma4.convert.choice import Choice
    from mlx_gemma4.convert.job import Result
    from mlx_gemma4.convert.plan import Plan
    from mlx_gemma4.convert.source import Source
    from mlx_gemma4.convert.survey import Wishes

    Planned = tuple[Source, Plan]
    Tokens = list[list[int]]


def preview(name: str, wishes: "Wishes", data: Path | None, screen: Screen) -> None:
    """What would be made of `name`, shown."""
    from .offers import choose, text_of
    from .plans import show, show_unmeasured

    source, plan = planned(name, None, wishes, screen)
    text = text_of(data, source.folder) if wishes.is_measured else None
    if text is not None and not source.at_hub:
        plan = choose(source, None, wishes, name, text, screen, data).plan
    show(plan, name, screen)
    if text is not None and source.at_hub:
        show_unmeasured(source, plan, screen)


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
        text = self._text(own[0])  # what is wrong with it is said before the work
        own = self._opened(*own, refine)
        if drafter is not None and other is not None:
            other = drafter._opened(*other)
        self._carry_out(*own, text, refine)
        if drafter is not None and other is not None:
            drafter._carry_out(*other)
        if upload is not None:
            from mlx_gemma4.convert.hub import upload as put

            address = put(self.out, upload, private)
            value: dict[str, object] = {"uploaded": address}
            making.say(value, f"Uploaded to {address}.", self.screen)

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
        config = AssistantConfig.from_file(configs[0])
        model = Config.from_file(configs[1])
        config.check_pair(model, drafter.source, self.source)
        return own, other

    def plan(self, refine: str | None = None) -> "Planned":
        """What it is made of and becomes, shown; weights at the Hub are not read."""
        from mlx_gemma4.hub.resolve import is_drafter

        from . import plans

        source, plan = planned(self.source, self.out, self.wishes, self.screen)
        if source.at_hub or not self.wishes.is_measured:
            plans.show(plan, self.source, self.screen)
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
        given = self.wishes, self.source, plan, self.screen
        return source, measured(source, *given)

    def _text(self, source: "Source") -> "Tokens | None":
        """What sizes are measured on, or scales refined; None is a sample, or none."""
        if self.wishes.is_measured:
            from .offers import text_of

            return text_of(self.data, source.folder)
        if self.data is None:
            return None
        from mlx_gemma4.convert.data import read_data

        return read_data(self.data, source.folder)

    def _carry_out(
        self,
        source: "Source",
        plan: "Plan",
        text: "Tokens | None" = None,
        refine: str | None = None,
    ) -> None:
        choice = None
        if text is not None and self.wishes.is_measured:
            from mlx_gemma4.convert.output import check_space

            if not (self.out / RECORD).is_file():
                check_space(self.out, plan.out_bytes)  # not after having measured
            choice = self.choose(source, text)
        made = self.convert(source, choice.plan if choice else plan, choice)
        making.tell(made, self.screen)
        if refine is not None:
            making.refine(source.folder, self.out, text, self.screen)

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

    def preview(self, drafter: "Conversion | None") -> None:
        """What would be made, shown; nothing is fetched or written."""
        from .plans import show_unmeasured

        (source, plan), _ = self.plans(drafter)
        text = self._text(source)
        if text is None or not self.wishes.is_measured:
            return
        if source.at_hub:
            show_unmeasured(source, plan, self.screen)
        else:
            self.choose(source, text, dry=True)

    def choose(self, source: "Source", text: "Tokens", dry: bool = False) -> "Choice":
        """What is measured to be best, shown with its plan."""
        from . import offers, plans

        given = self.wishes, self.source, text, self.screen, self.data
        found = offers.choose(source, None if dry else self.out, *given)
        plans.show(found.plan, self.source, self.screen)
        return found

    def convert(
        self, source: "Source", plan: "Plan", choice: "Choice | None" = None
    ) -> "Result":
        return making.make(source, self.out, plan, self.source, self.screen, choice)
