"""How a training run goes, as it is told."""

import time
from pathlib import Path
from typing import Any

from mlx_gemma4.tune.runs import Run
from mlx_gemma4.tune.trainer import Step, Trainer, Validation

from ..progress import clock
from ..render import Screen

LINES = 20  # lines of progress where stderr is no terminal


class Teller:
    """Says how a run goes, on stderr and in its log."""

    def __init__(self, screen: Screen, trainer: Trainer) -> None:
        self.screen, self.settings = screen, trainer.settings
        self.first = trainer.state.step
        self.started = time.perf_counter()
        self.tokens = 0
        self.losses: list[float] = []
        self.reports: list[Validation] = []
        self.skipped = 0

    def take(self, event: Step | Validation, run: Run) -> None:
        self.screen.passed()
        if isinstance(event, Validation):
            self.reports.append(event)
            report = event.report
            run.log({"kind": "validation", "step": event.step, **report.as_dict()})
            self.screen.note(
                f"step {event.step}: validation loss {report.loss:.4f}, "
                f"{report.accuracy:.1%} of tokens, {report.exact:.1%} of answers right"
            )
            return
        run.log({"kind": "step", **vars(event)})
        self.tokens += event.tokens
        if event.loss is None:
            self.skipped += 1
            self.screen.note(f"step {event.step}: no finite gradient, skipped")
        else:
            self.losses = [*self.losses[-19:], event.loss]
        self._progress(event)

    def _progress(self, event: Step) -> None:
        done, steps = event.step, self.settings.steps
        elapsed = time.perf_counter() - self.started
        mean = f"{sum(self.losses) / len(self.losses):.4f}" if self.losses else "none"
        left = elapsed / (done - self.first) * (steps - done)
        line = (
            f"step {done}/{steps}  loss {mean}  {self.tokens / elapsed:,.0f} tok/s"
            f"  {clock(left)} to go"
        )
        if self.screen.colour:
            self.screen.passing(line)
        elif done == steps or done % max(1, steps // LINES) == 0:
            self.screen.note(line)

    def end(self, out: Path) -> None:
        seconds = time.perf_counter() - self.started
        value: dict[str, Any] = {
            "adapter": str(out),
            "steps": self.settings.steps,
            "skipped": self.skipped,
            "seconds": round(seconds, 1),
        }
        count = self.settings.steps
        text = f"{out}: {count} step{'' if count == 1 else 's'} in {clock(seconds)}"
        if self.skipped:
            text += f", {self.skipped} of them skipped"
        if self.reports:
            loss, right = "", ""
            if self.first == 0:  # a resumed run has not seen the model alone
                before = self.reports[0].report
                value["before"] = before.as_dict()
                loss, right = f"{before.loss:.4f} -> ", f"{before.exact:.1%} -> "
            after = self.reports[-1].report
            value["after"] = after.as_dict()
            text += f", validation loss {loss}{after.loss:.4f}"
            text += f", answers right {right}{after.exact:.1%}"
        if self.screen.as_json:
            self.screen.json(value)
        else:
            print(f"{text}.", flush=True)
