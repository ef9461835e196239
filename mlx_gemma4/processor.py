"""Messages to token ids, with everything the checkpoint says about generating.

This version reads text. Pictures, sound and video are refused, never left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from .chat import MEDIA_PARTS, ChatTemplate
from .config import Config
from .errors import ChatError, CheckpointError, MediaError
from .json_file import read_json
from .media import Media
from .sampling import Sampling
from .splitter import opens_thought
from .tokenizer import Tokenizer

# Soft tokens per picture that the vision tower can be asked for.
IMAGE_TOKENS = (70, 140, 280, 560, 1120)
PLACEHOLDERS = ("<|image|>", "<|audio|>", "<|video|>")
# A turn is over after the first; after the second, the tool would have to speak.
END_OF_TURN = ("<turn|>", "<|tool_response>")
MAX_NUMBER = 2**31  # of generation_config.json: above are only mistakes


@dataclass(frozen=True)
class GenerationDefaults:
    """How to sample unless told otherwise. Temperature 0 takes the likeliest token;
    `stop_tokens` end an answer."""

    temperature: float = 1.0
    top_p: float = 0.95
    top_k: int = 64
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop_tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """A prompt: `tokens` int32 `[1, L]`, its media, and the text it came from."""

    tokens: mx.array
    media: Media | None
    text: str

    @property
    def inside_thought(self) -> bool:
        """Whether the prompt ends in an open thought that the model goes on with."""
        return opens_thought(self.text)


class Processor:
    """Turns a conversation into what the model reads.

    `template` is None for a checkpoint without one: it takes token ids only.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        config: Config,
        generation: GenerationDefaults,
    ):
        self.tokenizer = tokenizer
        self.template = template
        self.config = config
        self.generation = generation

    @classmethod
    def from_folder(cls, folder: Path, config: Config) -> "Processor":
        """Read tokenizer, chat template and generation_config.json of a checkpoint.

        Raises CheckpointError that names the file and the remedy.
        """
        tokenizer = Tokenizer(folder)
        template = ChatTemplate.from_folder(
            folder, tokenizer.bos_token, tokenizer.eos_token
        )
        generation = _generation_defaults(folder, tokenizer, config)
        return cls(tokenizer, template, config, generation)

    def __call__(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool = False,
        image_tokens: int = 280,
        add_generation_prompt: bool = True,
    ) -> Inputs:
        """Render and encode a conversation.

        `image_tokens`: soft tokens per picture. Raises ChatError for what cannot be
        rendered and MediaError for media.
        """
        if self.template is None:
            raise ChatError(
                "This checkpoint has no chat template: pass tokens, or add the "
                "chat_template.jinja of the original model to its folder."
            )
        if image_tokens not in IMAGE_TOKENS:
            sizes = ", ".join(map(str, IMAGE_TOKENS))
            raise MediaError(f"image_tokens is {image_tokens}; it can be {sizes}.")
        text = self.template.render(messages, tools, thinking, add_generation_prompt)
        _refuse_media(messages)
        for placeholder in PLACEHOLDERS:
            if placeholder in self.tokenizer.special_tokens and placeholder in text:
                raise ChatError(
                    f"The text contains {placeholder}, which stands for a file; "
                    "write it differently."
                )
        tokens = self.tokenizer.encode(text)
        return Inputs(mx.array([tokens], dtype=mx.int32), None, text)

    def continue_tokens(self, cached: Sequence[int], text: str) -> list[int]:
        """Ids for `text` that share as long a prefix with `cached` as is safe."""
        return self.tokenizer.continue_tokens(cached, text)


def _refuse_media(messages: Sequence[Mapping[str, Any]]) -> None:
    for i, message in enumerate(messages):
        content = message.get("content") or ()
        for part in () if isinstance(content, str) else content:
            if isinstance(part, Mapping) and part.get("type") in MEDIA_PARTS:
                raise MediaError(
                    f"messages[{i}] holds {part['type']!r}, but this version of "
                    "mlx-gemma4 reads text only; send the message without it."
                )


def _generation_defaults(
    folder: Path, tokenizer: Tokenizer, config: Config
) -> GenerationDefaults:
    path = folder / "generation_config.json"
    stated = read_json(path)
    eos = stated.get("eos_token_id")
    listed = [] if eos is None else eos if isinstance(eos, list) else [eos]
    if not all(type(token) is int and token >= 0 for token in listed):
        raise CheckpointError(f"{path}: eos_token_id is {eos!r}, not a token id.")
    marks = (tokenizer.special_tokens.get(mark) for mark in END_OF_TURN)
    stop = {*listed, *config.eos_token_id, tokenizer.eos_token_id}
    stop |= {token for token in marks if token is not None}
    if not isinstance(do_sample := stated.get("do_sample"), bool | None):
        raise CheckpointError(f"{path}: do_sample is {do_sample!r}, not true or false.")
    temperature = _number(path, stated, "temperature", 1.0)
    values: dict[str, Any] = {
        "top_p": _number(path, stated, "top_p", 0.95),
        "min_p": _number(path, stated, "min_p", 0.0),
        "repetition_penalty": _number(path, stated, "repetition_penalty", 1.0),
    }
    top_k = _number(path, stated, "top_k", 64)
    if top_k != int(top_k):
        raise CheckpointError(f"{path}: top_k is {top_k}, not a whole number.")
    defaults = GenerationDefaults(
        temperature=0.0 if do_sample is False else temperature,
        top_k=int(top_k),
        stop_tokens=tuple(sorted(stop)),
        **values,
    )
    try:  # the bounds of an answer's own options
        Sampling(temperature, top_k=defaults.top_k, **values)
    except ChatError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return defaults


def _number(path: Path, stated: Mapping[str, Any], key: str, default: float) -> float:
    value = stated.get(key)
    if value is None:
        return default
    if type(value) not in (int, float) or not abs(value) < MAX_NUMBER:
        raise CheckpointError(f"{path}: {key} is {value!r}, not a usable number.")
    return value
