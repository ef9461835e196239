"""The training loop: what happens is yielded, the caller shows and keeps it.

A step is a function from one state to the next. Whenever the loop is left, `state` is
that of the last finished step, and a run that goes on from it ends as if it had never
been left.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import mlx.core as mx
from mlx.utils import tree_unflatten

from ..model import Gemma4
from .adapters import Adapter
from .batches import batch_of, draw
from .errors import Diverged
from .evaluate import Report, evaluate
from .examples import Encoder, Example
from .learning import gradient_of, prepare
from .optimizer import State, first_state, norm, rate_at, skipped, updated
from .settings import Rhythm, Settings

PATIENCE = 5  # unusable steps in a row until training stops


@dataclass(frozen=True)
class Step:
    """One update. loss: mean over its learned tokens, in nats; None if it was skipped.
    tokens: read in it, of which `supervised` are learned."""

    step: int
    loss: float | None
    rate: float
    norm: float
    tokens: int
    supervised: int
    seconds: float


@dataclass(frozen=True)
class Validation:
    """What the validation examples say after `step` steps."""

    step: int
    report: Report


class Trainer:
    """One run. `train` and `validation` are what it reads, `state` where it is."""

    def __init__(
        self,
        model: Gemma4,
        adapter: Adapter,
        encoder: Encoder,
        settings: Settings,
        train: Sequence[Example],
        validation: Sequence[Example] = (),
    ):
        self.model, self.adapter = model, adapter
        self.encoder, self.settings = encoder, settings
        self.train, self.validation = train, validation
        model.step = None  # which would keep the weights of before
        learned = prepare(model, adapter)
        self._dtypes = {name: p.dtype for name, p in learned.items()}
        self.state: State = first_state(learned)
        self._gradient = gradient_of(model, settings.checkpoint)
        self._bad = 0

    def resume(self, state: State) -> None:
        """Go on from a saved state."""
        self._adopt(state)

    def settle(self) -> None:
        """Give the model the state of the last finished step, after an interruption."""
        self._adopt(self.state)

    def trial(self) -> float:
        """Seconds that the gradient of the longest examples takes, nothing learned."""
        longest = sorted(self.train, key=lambda e: len(e.tokens))
        started = time.perf_counter()
        self._accumulated(self.state, longest[-self.settings.batch :])
        return time.perf_counter() - started

    def run(self, rhythm: Rhythm) -> Iterator[Step | Validation]:
        """Train to the last step, yielding every step and validation.

        Raises Diverged where several steps in a row have no usable gradient.
        """
        if self.validation and self.state.step == 0:
            yield self.validate()
        every = rhythm.validate if self.validation else 0
        while not self.done:
            yield self.one_step()
            if every and not self.done and self.state.step % every == 0:
                yield self.validate()
        if every:  # also of a run that was stopped in it
            yield self.validate()

    @property
    def done(self) -> bool:
        return self.state.step >= self.settings.steps

    def validate(self) -> Validation:
        """Score the validation examples with the adapter as it is."""
        report = evaluate(self.model, self.encoder, self.validation)
        return Validation(self.state.step, report)

    def one_step(self) -> Step:
        """The gradient of some examples, weighted by token, and the update by it."""
        settings, state = self.settings, self.state
        started = time.perf_counter()
        examples = self._examples(state.step)
        loss, gradients, supervised = self._accumulated(state, examples)
        gradients = {name: g / supervised for name, g in gradients.items()}
        size, mean = norm(gradients), loss / supervised
        rate = rate_at(
            state.step,
            settings.steps,
            settings.learning_rate,
            settings.schedule,
            settings.warmup_steps,
        )
        usable = math.isfinite(size) and math.isfinite(mean)
        if usable:
            if settings.clip and size > settings.clip:
                share = settings.clip / size
                gradients = {name: g * share for name, g in gradients.items()}
            self._adopt(updated(state, gradients, rate, settings.weight_decay))
        else:
            self._skip(state)
        mx.clear_cache()  # buffers of other lengths would add up
        read = sum(len(example.tokens) for example in examples)
        seconds = time.perf_counter() - started
        shown = mean if usable else None
        return Step(state.step + 1, shown, rate, size, read, supervised, seconds)

    def _examples(self, step: int) -> list[Example]:
        """Those of a step, by length, so that little padding is needed."""
        count = self.settings.per_step
        order = draw(self.settings.seed, len(self.train), step * count, count)
        return sorted((self.train[i] for i in order), key=lambda e: len(e.tokens))

    def _accumulated(
        self, state: State, examples: Sequence[Example]
    ) -> tuple[float, dict[str, mx.array], int]:
        """Summed loss, summed gradients, and the number of learned tokens."""
        total, supervised = 0.0, 0
        parameters = self._served(state)
        gradients: dict[str, mx.array] = {}
        for start in range(0, len(examples), self.settings.batch):
            batch = batch_of(
                examples[start : start + self.settings.batch], self.encoder
            )
            if not (count := sum(batch.counts)):
                continue
            value, found = self._gradient(parameters, batch)
            for name, gradient in found.items():
                gradient = gradient.astype(mx.float32)
                earlier = gradients.get(name)
                gradients[name] = gradient if earlier is None else earlier + gradient
            mx.eval(value, gradients)
            total += cast(float, value.item())
            supervised += count
        return total, gradients, supervised

    def _served(self, state: State) -> dict[str, mx.array]:
        """What the model computes with and what is saved: in the types of its base."""
        return {n: p.astype(self._dtypes[n]) for n, p in state.parameters.items()}

    def _adopt(self, state: State) -> None:
        served = self._served(state)
        self.model.update(tree_unflatten(list(served.items())))
        if self.adapter.kind == "full":
            self.adapter.weights = served
        self.state = state
        self._bad = 0

    def _skip(self, state: State) -> None:
        self.state = skipped(state)
        self._bad += 1
        if self._bad >= PATIENCE:
            raise Diverged(
                f"{PATIENCE} steps in a row had no finite gradient: training has "
                "diverged. Lower --learning-rate, or look at the data of these steps."
            )
