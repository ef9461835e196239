"""A model that writes what it is told, so that whole conversations can be checked.

The logits that each written token would have been drawn from are kept and compared with
one plain forward pass over the same tokens: whatever the prefix cache did, they must be
those of a model that has read everything afresh.
"""

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import golden
import mlx.core as mx
import numpy as np
import pytest
import tiny

from mlx_gemma4 import stream_generate
from mlx_gemma4.cache import make_cache
from mlx_gemma4.chat.calls import openai_call
from mlx_gemma4.chat.template import ChatTemplate
from mlx_gemma4.config import FULL, SLIDING, Config
from mlx_gemma4.decoding.prefix import PrefixCache
from mlx_gemma4.generation.asked import as_written
from mlx_gemma4.generation.loop import Response, Stats
from mlx_gemma4.model import Gemma4
from mlx_gemma4.prompt.processor import Processor

END = "<turn|>"
MODEL = f"{END}\n<|turn>model\n"  # behind a question
# What sets Google's large template apart: without thinking, an answer begins behind an
# empty thought that the history does not show.
CLOSED_THOUGHT = (
    "{%- if add_generation_prompt and ns.state is none and not thinking -%}"
    "{{- '<|channel>thought\\n<channel|>' -}}{%- endif -%}"
)


class Author:
    """Stands in for the sampler: writes `answer`, and keeps the logits."""

    seed = count = 0
    redrawn = None

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.answer: list[int] = []
        self.logits: list[mx.array] = []
        # The package's attribute of this name is the function.
        module = import_module("mlx_gemma4.generation.loop")
        patch.setattr(module, "Sampler", self.begin)

    def begin(self, *_: Any) -> "Author":
        self.logits = []
        return self

    def __call__(self, logits: mx.array, allowed: None = None) -> mx.array:
        self.logits.append(logits[0])
        written = [*self.answer, 0]  # decoding runs one token ahead
        return mx.array([[written[len(self.logits) - 1]]])


def tiny_model(
    variant: str, config: Config, slack: int, patch: pytest.MonkeyPatch
) -> Gemma4:
    """A random model with the demo's vocabulary, window 8 and caches of `slack`.

    Cut to four layers, or three, that keep a variant's kinds of layers.
    """
    vocab = config.text_config.vocab_size
    shared = tiny.config_dict(variant)["text_config"]["num_kv_shared_layers"]
    kinds = [SLIDING, FULL, SLIDING, FULL] if shared else [SLIDING, SLIDING, FULL]
    model = tiny.build(
        variant,
        3,
        vocab_size=vocab,
        vocab_size_per_layer_input=vocab,
        layer_types=kinds,
        num_hidden_layers=len(kinds),
        num_kv_shared_layers=2 if shared else 0,
    )
    text = model.config.text_config
    patch.setattr("mlx_gemma4.cache.buffers.STEP", 8)  # so that windows wrap early
    patch.setattr(
        Gemma4, "make_cache", lambda _, bits=None: make_cache(text, slack, bits)
    )
    return model


def with_template(folder: Path, config: Config, source: str) -> Processor:
    """The demo's tokenizer with another chat template."""
    processor = Processor.from_folder(folder, config)
    processor.template = ChatTemplate(source, processor.tokenizer.bos_token)
    return processor


def common(a: list[int], b: list[int]) -> int:
    """Length of the common beginning."""
    pairs = zip(a, b, strict=False)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))


@dataclass
class Chat:
    """A conversation whose every answer is checked against a fresh reading.

    With an author, answers are what `answer` is told; without, the model's own.
    """

    model: Gemma4
    processor: Processor
    author: Author | None = None
    thinking: bool = False
    messages: list[dict[str, Any]] = field(default_factory=list)
    stats: Stats = field(default_factory=lambda: Stats(0, 0, 0))

    def __post_init__(self) -> None:
        self.prefix = PrefixCache(self.model)

    @property
    def read(self) -> int:
        """How many tokens the last answer had to read before it began."""
        return self.stats.prompt_tokens - self.stats.cached_tokens

    def count(self, text: str) -> int:
        return len(self.processor.tokenizer.encode(text))

    def ask(self, text: str, answer: str | list[int] = "", **options: Any) -> Response:
        self.messages.append({"role": "user", "content": text})
        return self.answer(answer, **options)

    def answer(
        self, answer: str | list[int] = "", most: int = 400, chunks: int = 400
    ) -> Response:
        """Answers the messages, at most `most` tokens, interrupted after `chunks`."""
        before = list(self.prefix.tokens)
        if self.author:
            encode = self.processor.tokenizer.encode
            tokens = encode(answer) if isinstance(answer, str) else answer
            self.author.answer = tokens
            stops = self.processor.generation.stop_tokens
            assert len(tokens) >= min(most, chunks) or tokens[-1] in stops
        response = self._generate(most, chunks, self.prefix, messages=self.messages)
        self._check(response, before, most)
        message: dict[str, Any] = {"role": "assistant", "content": response.text}
        if response.thought:
            message["reasoning"] = response.thought
        if response.tool_calls:
            calls = [openai_call(c, f"c{i}") for i, c in enumerate(response.tool_calls)]
            message["tool_calls"] = calls
        self.messages.append(message)
        return response

    def _generate(
        self, most: int, chunks: int, prefix: PrefixCache | None, **prompt: Any
    ) -> Response:
        stream = stream_generate(
            self.model,
            self.processor,
            **prompt,
            thinking=self.thinking,
            max_tokens=most,
            temperature=0.0,
            prefix=prefix,
            prefill_step=20,
        )
        response = Response()
        for chunk in stream:
            response.text += chunk.text
            response.thought += chunk.thought
            response.tool_calls += chunk.tool_calls
            response.tokens.append(chunk.token)
            response.stats = chunk.stats
            if len(response.tokens) == chunks:
                break
        stream.close()  # type: ignore[attr-defined]
        return response

    def _check(self, response: Response, before: list[int], most: int) -> None:
        written, held = response.tokens, self.prefix.tokens
        interrupted = response.stats is None
        known = len(written) - (not interrupted and len(written) == most)
        prompt = held[: len(held) - known]
        assert held == prompt + written[:known]
        said = as_written(self.messages)
        text = self.processor(said, thinking=self.thinking).text
        assert self.processor.tokenizer.decode(prompt) == text
        if response.stats is not None:
            self.stats = response.stats
            assert self.stats.prompt_tokens == len(prompt)
            assert self.stats.cached_tokens <= common(before, prompt)
            assert self.read >= 1
        if self.author:
            fresh = tiny.logits(self.model, prompt + written)[len(prompt) - 1 : -1]
            ours = np.array(mx.stack(self.author.logits[: len(written)]))
            golden.check_logits(ours, fresh)
        else:
            fresh = self._generate(most, len(written), None, tokens=prompt)
            assert fresh.tokens == written
