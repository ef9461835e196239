"""One training run: examples, plan, progress, and what is kept of it."""

import math
from contextlib import closing
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_gemma4.hub.resolve import resolve
from mlx_gemma4.reading.home import with_home
from mlx_gemma4.tune.adapters import AdapterSettings, new_adapter
from mlx_gemma4.tune.base import weights_digest
from mlx_gemma4.tune.errors import AdapterError, Diverged
from mlx_gemma4.tune.examples import Encoded, Encoder, Long, repeated
from mlx_gemma4.tune.fields import FIELDS
from mlx_gemma4.tune.files import Data, read_data
from mlx_gemma4.tune.folders import Hold
from mlx_gemma4.tune.plan import Plan, knobs, make_plan
from mlx_gemma4.tune.runs import Run, base_model, fingerprint
from mlx_gemma4.tune.samples import samples
from mlx_gemma4.tune.settings import Rhythm, Settings
from mlx_gemma4.tune.trainer import Step, Trainer, Validation

from ..errors import UsageError, unread
from ..loading import open_model, saved_name
from ..render import Screen
from .telling import Teller
from .views import mask_view, plan_lines

if TYPE_CHECKING:
    from mlx_gemma4 import Gemma4, Processor

SAMPLES = 3  # answers shown at a time


@dataclass(frozen=True)
class Wishes:
    """What the command line asked for."""

    data: Path
    model: str | None
    out: Path | None
    adapter: AdapterSettings
    epochs: float
    steps: int | None
    training: dict[str, Any]
    length: int
    long: Long
    image_tokens: int | None
    validation: float
    rhythm: Rhythm
    resume: bool
    show_mask: int
    dry_run: bool
    yes: bool = False


def train_adapter(wishes: Wishes, screen: Screen) -> None:
    """Holds the folder that the run goes into."""
    if wishes.dry_run or wishes.show_mask or wishes.out is None:
        _train_adapter(wishes, None, screen)
        return
    with closing(Hold(with_home(wishes.out))) as hold:
        check_folder(wishes, hold)
        _train_adapter(wishes, hold, screen)


def _with_likeness(field: str) -> str:
    """`field`, and the one that it may be a slip of."""
    alike = get_close_matches(field, sorted(FIELDS), 1, cutoff=0.8)
    return f"{field} ({alike[0]}?)" if alike else field


def _train_adapter(wishes: Wishes, hold: Hold | None, screen: Screen) -> None:
    """Reads the examples first, so that a bad line costs no loading of a model."""
    data = read_data(wishes.data, wishes.validation, wishes.training["seed"])
    if data.ignored:
        named = ", ".join(map(_with_likeness, sorted(data.ignored)))
        screen.note(f"Fields without a meaning: {named}.")
    for remark, count in data.remarks.items():
        screen.note(f"{remark.value} (examples: {count}).")
    name = wishes.model
    if name is None and wishes.resume and wishes.out is not None:
        name = base_model(wishes.out)
    model, processor, name = open_model(name, screen, kernels=False, yes=wishes.yes)
    Job(wishes, hold, data, model, processor, name, screen).run()


def check_folder(wishes: Wishes, hold: Hold) -> None:
    """Finds at once what would stop a run after its plan."""
    hold.take()
    run = Run(hold.folder, "", {})
    if not wishes.resume:
        run.check_free()  # made when training begins: bad data leaves no folder
    elif not run.started:
        raise AdapterError(f"{run.folder} holds no run to resume.")


class Job:
    """A run from its plan to its end."""

    def __init__(
        self,
        wishes: Wishes,
        hold: Hold | None,
        data: Data,
        model: "Gemma4",
        processor: "Processor",
        name: str,
        screen: Screen,
    ) -> None:
        self.wishes, self.hold = wishes, hold
        self.data, self.screen = data, screen
        self.model, self.processor, self.name = model, processor, name
        self.encoder = Encoder(
            processor, wishes.length, wishes.long, wishes.image_tokens
        )

    def run(self) -> None:
        wishes, screen = self.wishes, self.screen
        train = self.encoder.encode(self.data.train)
        held = Encoded()
        if self.data.validation:
            held = self.encoder.encode(self.data.validation)
        for encoded in (train, held):
            self._say_what_was_changed(encoded)
        if same := repeated(train.examples, held.examples):
            screen.note(
                f"Warning: {same} of {len(held.examples)} validation examples are also "
                "trained on, and are no measure of what was learned."
            )
        if wishes.show_mask:
            shown = train.examples[: wishes.show_mask]
            print(mask_view(shown, self.processor), end="", flush=True)
            return
        settings = self._settings(len(train.examples))
        adapter = new_adapter(self.model, wishes.adapter, settings.seed)
        plan = make_plan(self.model, adapter, settings, train, held)
        check_memory(plan, settings)
        trainer = Trainer(
            self.model, adapter, self.encoder, settings, train.examples, held.examples
        )
        screen.passing("Timing one batch …")
        seconds = trainer.expected_seconds(wishes.rhythm)
        screen.passed()
        with unread():
            self._tell_plan(plan, seconds)
        if not wishes.dry_run:
            self._train(trainer)

    def _settings(self, examples: int) -> Settings:
        wishes = self.wishes
        per_step = wishes.training["batch"] * wishes.training["accumulate"]
        steps = wishes.steps or math.ceil(wishes.epochs * examples / per_step)
        if steps < 1:
            raise UsageError("That is no step at all: raise --epochs or give --steps.")
        return Settings(steps=steps, adapter=wishes.adapter, **wishes.training)

    def _say_what_was_changed(self, found: Encoded) -> None:
        length = self.wishes.length
        for count, what in (
            (found.skipped, "examples are longer and left out"),
            (found.cut, "examples are longer and cut at their end"),
            (found.split, "texts are longer and split into pieces"),
        ):
            if count:
                self.screen.note(f"{count} {what} (--max-length {length}).")

    def _tell_plan(self, plan: Plan, seconds: float) -> None:
        if self.screen.as_json:
            value = {"plan": {**plan.as_dict(), "seconds": round(seconds, 1)}}
            self.screen.json(value)
        else:
            more = bool(self.wishes.rhythm.sample)
            lines = plan_lines(plan, self.name, seconds, more)
            print("\n".join(lines), flush=True)

    def _train(self, trainer: Trainer) -> None:
        assert self.wishes.out is not None
        out = with_home(self.wishes.out)
        mark = fingerprint(trainer.settings, trainer.train)
        weights = weights_digest(resolve(self.name))
        run = Run(out, mark, {"model": saved_name(self.name)}, weights)
        if self.wishes.resume:
            trainer.resume(run.load())
            again = trainer.done and trainer.validation and self.wishes.rhythm.validate
            run.forget_after(trainer.state.step, bool(again))
            self.screen.note(f"Going on after step {trainer.state.step}.")
        else:
            run.begin(self.hold)
        teller = Teller(self.screen, trainer)
        try:
            for event in trainer.run(self.wishes.rhythm):
                teller.take(event, run)
                self._keep(event, trainer, run)
            run.save(self.model, trainer.adapter, trainer.state)
        except (KeyboardInterrupt, Diverged):
            self.screen.passed()
            trainer.settle()
            run.save(self.model, trainer.adapter, trainer.state)
            step = trainer.state.step
            self.screen.note(f"Saved step {step} in {out}; --resume goes on with it.")
            raise
        self.screen.passed()
        run.draw()
        teller.end(out)

    def _keep(self, event: Step | Validation, trainer: Trainer, run: Run) -> None:
        """Saves and samples when it is time for it."""
        if isinstance(event, Validation):
            return
        rhythm = self.wishes.rhythm
        if rhythm.save and event.step % rhythm.save == 0:
            run.save(self.model, trainer.adapter, trainer.state)
            run.draw()
        if rhythm.sample and event.step % rhythm.sample == 0:
            self.screen.passed()
            asked = self.data.validation or self.data.train
            for each in samples(self.model, self.processor, asked, SAMPLES):
                run.log({"kind": "sample", "step": event.step, **vars(each)})
                line = f"{each.question!r} -> {each.answer!r} (wanted {each.wanted!r})"
                self.screen.note(f"step {event.step}: {line}")


def check_memory(plan: Plan, settings: Settings) -> None:
    """Raises MemoryError that names what to turn."""
    from mlx_gemma4.device import memory_limit

    limit, need = memory_limit(), plan.memory.total
    if need > limit:
        raise MemoryError(
            f"this run would take about {need / 1e9:.1f} GB of {limit / 1e9:.1f} GB. "
            f"Turn: {knobs(settings, plan)}."
        )
