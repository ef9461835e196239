"""Messages to token ids and media, with all the checkpoint says about generating."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..chat.splitter import opens_thought
from ..chat.template import ChatTemplate
from ..chat.tokenizer import Tokenizer
from ..config import Config
from ..errors import ChatError, CheckpointError, MediaError
from ..reading.json_file import read_json
from ..sampling import Sampling
from .attachments import KINDS, Attachments, MediaSettings, Prepared, settings_from
from .media import Media

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
        media: MediaSettings | None = None,
    ):
        self.media = media or MediaSettings()
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
        media = settings_from(folder, read_json(folder / "processor_config.json"))
        return cls(tokenizer, template, config, generation, media)

    def __call__(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool = False,
        image_tokens: int | None = None,
        add_generation_prompt: bool = True,
    ) -> Inputs:
        """Render and encode a conversation.

        image_tokens: the most soft tokens a picture may take: 70, 140, 280, 560 or
            1120; None is the checkpoint's own setting, 280 in Google's.

        Raises ChatError for what cannot be rendered and MediaError for media that
        cannot be read.
        """
        if self.template is None:
            raise ChatError(
                "This checkpoint has no chat template: pass tokens, or add the "
                "chat_template.jinja of the original model to its folder."
            )
        text = self.template.render(messages, tools, thinking, add_generation_prompt)
        attachments = Attachments(self.config, self.media, self._spell, image_tokens)
        text = attachments.read(messages).write_into(text)
        tokens = mx.array([self.tokenizer.encode(text)], dtype=mx.int32)
        media = attachments.media if attachments.texts else None
        return Inputs(tokens, media, text)

    def prepare(
        self, part: Mapping[str, Any], image_tokens: int | None = None
    ) -> Prepared:
        """Read the medium of one message part, to be put in its place.

        `{"type": "image", "path": …}` becomes `{"type": "image", "image": prepared}`;
        in the turns that follow no file is read again, and whoever changes the file
        changes nothing that was said about it. A picture keeps the `image_tokens` it
        was prepared with.

        Raises MediaError for what cannot be read, or that this model cannot take.
        """
        kind = KINDS.get(str(part.get("type")))
        if kind is None:
            raise MediaError(f"A part of type {part.get('type')!r} holds no medium.")
        read = Attachments(self.config, self.media, self._spell, image_tokens)
        ((_, text),) = read.read([{"role": "user", "content": [part]}]).texts
        return Prepared(kind, read.media, text)

    def _spell(self, token: int) -> str:
        return self.tokenizer.decode([token])

    def continue_tokens(self, cached: Sequence[int], text: str) -> list[int]:
        """Ids for `text` that share as long a prefix with `cached` as is safe."""
        return self.tokenizer.continue_tokens(cached, text)


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
