"""Messages to token ids and media, with all the checkpoint says about generating."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..chat.template import ChatTemplate
from ..chat.tokenizer import Tokenizer
from ..config import Config
from ..errors import ChatError, CheckpointError, MediaError
from ..media import Media, Span, find_spans
from ..reading.json_file import read_json
from ..sampling import SAMPLING, Sampling
from .attachments import KIND_OF_PART, Attachments, MediaSettings, Prepared
from .lengths import check_length

# A turn is over after the first; after the second, the tool would have to speak.
END_OF_TURN = ("<turn|>", "<|tool_response>")
MAX_NUMBER = 2**31  # of generation_config.json: above are only mistakes


@dataclass(frozen=True)
class GenerationDefaults:
    """How to sample unless told otherwise; `stop_tokens` end an answer."""

    sampling: Sampling = Sampling()
    stop_tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """A prompt: `tokens` int32 `[1, L]`, the text they came from, and where among them
    its media stand."""

    tokens: mx.array
    text: str
    spans: Sequence[Span] = ()

    @property
    def media(self) -> Media | None:
        """The media in order, for a call to the model with these tokens or some."""
        return replace(Media.at(self.spans), spans=None) if self.spans else None


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
        media = MediaSettings.from_file(folder / "processor_config.json")
        return cls(tokenizer, template, config, generation, media)

    def __call__(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool = False,
        image_tokens: int | None = None,
        add_generation_prompt: bool = True,
        cached: Sequence[int] = (),
    ) -> Inputs:
        """Render and encode a conversation, and read its media.

        image_tokens: the most soft tokens a picture may take: 70, 140, 280, 560 or
            1120; None is the checkpoint's own setting, 280 in Google's.
        cached: ids that a model has read and written before; as many of them are kept
            as is safe, where the text begins as they do.

        Raises ChatError for what cannot be rendered and MediaError for media that
        cannot be read.
        """
        text = self.render(messages, tools, thinking, add_generation_prompt)
        return self.encode(text, self.attach(messages, image_tokens), cached)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool = False,
        add_generation_prompt: bool = True,
    ) -> str:
        """The text of a conversation, with a mark for each medium, none of them read.

        Raises ChatError for what cannot be rendered.
        """
        if self.template is None:
            raise ChatError(
                "This checkpoint has no chat template: pass tokens, or add the "
                "chat_template.jinja of the original model to its folder."
            )
        return self.template.render(messages, tools, thinking, add_generation_prompt)

    def attach(
        self, messages: Sequence[Mapping[str, Any]], image_tokens: int | None = None
    ) -> Attachments:
        """Read the media of a conversation. Raises MediaError as a call does."""
        read = Attachments(self.config, self.media, self._spell, image_tokens)
        return read.read(messages)

    def encode(
        self, text: str, attachments: Attachments, cached: Sequence[int] = ()
    ) -> Inputs:
        """The ids of a rendered text, with the media of its conversation in it.

        Raises ChatError for one that no context holds, before it takes the time.
        """
        check_length(text, self.tokenizer, self.config)
        text = attachments.write_into(text)
        tokens = self.tokenizer.continue_tokens(cached, text)
        spans = find_spans(tokens, attachments.attached)
        return Inputs(mx.array([tokens], dtype=mx.int32), text, spans)

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
        kind = KIND_OF_PART.get(str(part.get("type")))
        if kind is None:
            raise MediaError(f"A part of type {part.get('type')!r} holds no medium.")
        read = self.attach([{"role": "user", "content": [part]}], image_tokens)
        ((_, text),) = read.texts
        return Prepared(kind, tuple(read.attached), text)

    def _spell(self, token: int) -> str:
        return self.tokenizer.decode([token])


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
    return GenerationDefaults(_sampling(path, stated), tuple(sorted(stop)))


def _sampling(path: Path, stated: Mapping[str, Any]) -> Sampling:
    """What generation_config.json states, within the bounds of an answer's options."""
    if not isinstance(do_sample := stated.get("do_sample"), bool | None):
        raise CheckpointError(f"{path}: do_sample is {do_sample!r}, not true or false.")
    given = {
        name: _number(path, name, stated[name])
        for name in SAMPLING
        if name != "seed" and stated.get(name) is not None
    }
    if given.get("top_k", 0.5) % 1 == 0:  # 64.0 is a whole number
        given["top_k"] = int(given["top_k"])
    try:
        sampling = Sampling().but_with(**given)
    except ChatError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return sampling.but_with(temperature=0.0) if do_sample is False else sampling


def _number(path: Path, key: str, value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) < MAX_NUMBER:
        raise CheckpointError(f"{path}: {key} is {value!r}, not a usable number.")
    return value
