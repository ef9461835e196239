"""How answers are made: the options of every command that answers, and /set."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, get_type_hints

from mlx_gemma4.chat.splitter import StopStrings
from mlx_gemma4.config.ple import Ple
from mlx_gemma4.errors import ChatError
from mlx_gemma4.prompt.attachments import BUDGETS, IMAGE_TOKENS
from mlx_gemma4.sampling import SAMPLING, Sampling

from .drafts import check_draft, mode_of
from .options import Draft, ImageTokens, KvBits, MaxContext, Panel, PerLayer

OF_RUN = {"draft", "ple", "max_context"}  # what suits a machine, and changes no answer


@dataclass
class Settings:
    """How answers are made. None leaves a value to the checkpoint.

    Each field is the option that sets it; see `takes_settings`.
    """

    think: Annotated[
        bool,
        Panel.ANSWER.option("--think/--no-think", help="Let the model think first."),
    ] = False
    think_budget: Annotated[
        int | None,
        Panel.ANSWER.option(
            "--think-budget",
            min=0,
            metavar="N",
            help="The most tokens of a thought; then it is closed.",
        ),
    ] = None
    image_tokens: ImageTokens = None  # the most a picture attached from now on takes
    control_tokens: Annotated[
        bool,
        Panel.ANSWER.option(
            "--control-tokens",
            help="Obey marks such as <|turn> in what is typed, piped or returned by "
            "tools. Without it they are words.",
        ),
    ] = False
    temperature: Annotated[
        float | None,
        Panel.ANSWER.option(
            "--temperature", min=0.0, help="0 always takes the likeliest token."
        ),
    ] = None
    top_p: Annotated[
        float | None,
        Panel.ANSWER.option(
            "--top-p", min=0.0, max=1.0, help="Sample from this share of probability."
        ),
    ] = None
    top_k: Annotated[
        int | None,
        Panel.ANSWER.option(
            "--top-k", min=0, help="Sample from this many tokens; 0 is all."
        ),
    ] = None
    min_p: Annotated[
        float | None,
        Panel.ANSWER.option(
            "--min-p",
            min=0.0,
            max=1.0,
            help="Drop tokens below this share of the best.",
        ),
    ] = None
    repetition_penalty: Annotated[
        float | None,
        Panel.ANSWER.option(
            "--repetition-penalty", min=0.01, help="Above 1 discourages repetition."
        ),
    ] = None
    presence_penalty: Annotated[
        float | None,
        Panel.ANSWER.option(
            "--presence-penalty",
            min=-2.0,
            max=2.0,
            help="Above 0 discourages tokens that the answer has.",
        ),
    ] = None
    frequency_penalty: Annotated[
        float | None,
        Panel.ANSWER.option(
            "--frequency-penalty",
            min=-2.0,
            max=2.0,
            help="The same, more with each time that it has them.",
        ),
    ] = None
    seed: Annotated[
        int | None,
        Panel.ANSWER.option("--seed", min=0, help="Makes sampling repeatable."),
    ] = None
    max_tokens: Annotated[
        int | None,
        Panel.ANSWER.option(
            "--max-tokens", min=1, help="The longest answer, in tokens."
        ),
    ] = None
    stop: Annotated[
        list[str],
        Panel.ANSWER.option(
            "--stop", help="End the answer before this text. Repeatable."
        ),
    ] = field(default_factory=list)

    stop_loops: Annotated[
        bool,
        Panel.ANSWER.option(
            "--stop-loops/--no-stop-loops",
            help="End an answer that says the same words again and again.",
        ),
    ] = True
    draft: Draft = None
    ple: PerLayer = Ple.AUTO
    kv_bits: KvBits = None
    max_context: MaxContext = None

    @property
    def sampling(self) -> dict[str, Any]:
        """Those of how tokens are drawn, as `stream_generate` takes them."""
        return {name: getattr(self, name) for name in SAMPLING}

    @property
    def options(self) -> dict[str, Any]:
        """All of them, as `stream_generate` takes them."""
        return {
            "thinking": self.think,
            "think_budget": self.think_budget,
            "image_tokens": self.image_tokens,
            "control_tokens": self.control_tokens,
            "max_tokens": self.max_tokens,
            "stop": self.stop,
            "stop_loops": self.stop_loops,
            "draft": mode_of(self.draft),
            "kv_bits": self.kv_bits or None,
            "max_context": self.max_context,
            **self.sampling,
        }

    @property
    def loading(self) -> dict[str, Any]:
        """Those that a model is loaded with, as `open_model` takes them."""
        names = ("draft", "ple", "max_context", "kv_bits")
        return {name: getattr(self, name) for name in names}

    @property
    def kept(self) -> dict[str, Any]:
        """Those that belong to a conversation, wherever it is gone on with."""
        return {k: v for k, v in asdict(self).items() if k not in OF_RUN}

    def check(self) -> None:
        """Raises ChatError for a value that no answer can be made with."""
        Sampling().but_with(**self.sampling)
        most = self.max_tokens
        if most is not None and (type(most) is not int or most < 1):
            raise ChatError(
                f"max_tokens is {most!r}; it must be a whole number from 1."
            )
        budget = self.think_budget
        if budget is not None and (type(budget) is not int or budget < 0):
            raise ChatError(
                f"think_budget is {budget!r}; it must be a whole number from 0."
            )
        if not isinstance(self.think, bool):
            raise ChatError(f"think is {self.think!r}; it must be true or false.")
        if not isinstance(self.stop_loops, bool):
            loops = self.stop_loops
            raise ChatError(f"stop_loops is {loops!r}; it must be true or false.")
        if not isinstance(self.stop, list):
            raise ChatError(f"stop is {self.stop!r}; it must be a list of texts.")
        StopStrings(self.stop)
        if self.image_tokens is not None and (
            type(self.image_tokens) is not int or self.image_tokens not in IMAGE_TOKENS
        ):
            budget = f"--budget (image_tokens) is {self.image_tokens!r}"
            raise ChatError(f"{budget}; it can be {BUDGETS}.")
        check_draft(self.draft)
        if self.kv_bits:
            from mlx_gemma4.cache import check_bits

            check_bits(self.kv_bits)
        if self.max_context is not None:
            from mlx_gemma4.generation.room import check_max_context

            check_max_context(self.max_context)


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with an option for each field of Settings in place of the one parameter
    `settings` that it takes."""
    names = [each.name for each in fields(Settings)]
    hints = get_type_hints(Settings, include_extras=True)
    defaults = Settings()

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        command(settings=Settings(**{n: values.pop(n) for n in names}), **values)

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if parameter.name != "settings":
            parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
            continue
        parameters += [
            parameter.replace(
                name=name,
                kind=parameter.KEYWORD_ONLY,
                default=getattr(defaults, name),
                annotation=hints[name],
            )
            for name in names
        ]
    # Typer reads both.
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {p.name: p.annotation for p in parameters}
    return with_options
