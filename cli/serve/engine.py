"""The model of a server, and what it can be asked. For one thread alone: MLX's arrays
belong to the one that makes them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlx_gemma4 import Batch, Chunk, Gemma4, Processor
    from mlx_gemma4.kept.store import KeptPrompts

ROWS = 4  # answers at once, unless told otherwise

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """What is to be answered, whatever protocol asks.

    messages: as `stream_generate` takes them; or tokens, to be gone on with.
    tool_choice: "auto", "none", "required", or the name of the tool to call.
    parallel_calls: whether an answer may have more than one call.
    options: of `stream_generate`, those that were asked for.
    form: `schema`, `regex` or `grammar`, as `stream_generate` takes them.
    """

    messages: Sequence[Message] | None = None
    tokens: Sequence[int] | None = None
    tools: Sequence[Mapping[str, Any]] | None = None
    tool_choice: str = "auto"
    parallel_calls: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    form: Mapping[str, Any] = field(default_factory=dict)


def unheard(read: int, of: int) -> None:
    """Progress that nobody asked for."""


class Engine:
    """A loaded model.

    defaults: options of `stream_generate` that hold where a request states none.
    rows: how many answers are made at once.
    prompts: where what was read is kept for later runs.
    progress: is told of the prompt's tokens that are read, of how many; raises what
        is to end the answer. Whoever runs the engine sets it as each request begins.
    """

    def __init__(
        self,
        model: "Gemma4",
        processor: "Processor",
        name: str,
        defaults: Mapping[str, Any] | None = None,
        rows: int = ROWS,
        prompts: "KeptPrompts | None" = None,
    ) -> None:
        from mlx_gemma4 import PrefixCaches
        from mlx_gemma4.decoding.prefixes import MOST

        self.model, self.processor, self.name = model, processor, name
        self.defaults = dict(defaults or {})
        self.progress: Callable[[int, int], None] = unheard
        self.rows = rows
        kv_bits = self.defaults.get("kv_bits")
        most = MOST + rows
        self._prefixes = PrefixCaches(model, most, kv_bits=kv_bits, keeping=prompts)

    def keep_in(self, kv_bits: int | None) -> None:
        """How contexts are kept from now on; those kept otherwise are read again."""
        if kv_bits != self._prefixes.kv_bits:
            self._prefixes.clear()
            self._prefixes.kv_bits = kv_bits

    def close(self) -> None:
        """Has what was read kept for later runs; who gave `prompts` closes them."""
        self._prefixes.keep()

    @property
    def context(self) -> int:
        """How many tokens the model reads and writes at most."""
        own = self.model.config.text_config.max_position_embeddings
        return min(own, self.defaults.get("max_context") or own)

    def batch(self) -> "Batch[Any]":
        """What answers are computed in."""
        from mlx_gemma4 import Batch

        return Batch(self.model, self.rows)

    def answer(self, asked: Asked) -> "Iterator[Chunk]":
        """One chunk per token; the last has `finish_reason` and `stats`.

        Raises ChatError and MediaError for what cannot be honoured.
        """
        from mlx_gemma4 import stream_generate

        options = {**self.defaults, **asked.options, **asked.form}
        return stream_generate(
            self.model,
            self.processor,
            asked.messages,
            tokens=asked.tokens,
            tools=asked.tools,
            tool_choice=asked.tool_choice,
            parallel_calls=asked.parallel_calls,
            prefix=self._prefixes,
            progress=self.progress,
            **options,
        )

    def count(self, asked: Asked) -> int:
        """How many tokens the prompt has. Raises as `answer`."""
        if asked.messages is None:
            return len(asked.tokens or ())
        from mlx_gemma4.forms.form import asking, form_of
        from mlx_gemma4.generation.asked import prompt_of
        from mlx_gemma4.prompt.begun import begun_tokens

        options = {**self.defaults, **asked.options}
        messages = asked.messages
        form = form_of(*map(asked.form.get, ("schema", "regex", "grammar")))
        if form is not None:
            messages = asking(messages, form)
        prompt, _ = prompt_of(
            self.processor,
            messages,
            None,
            asked.tools,
            options.get("thinking", False),
            options.get("image_tokens"),
            options.get("control_tokens", False),
            None,
            progress=self.progress,
        )
        begun = options.get("begun", {})
        if isinstance(begun, Mapping):
            begun = begun and begun_tokens(self.processor.tokenizer, begun, False)
        return len(prompt.tokens) + len(begun)
