"""Messages to token ids and media, with all the checkpoint says about generating."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from ..chat.rendered import Rendered
from ..chat.template import ChatTemplate
from ..chat.tokenizer import Tokenizer
from ..config import Config
from ..errors import ChatError, MediaError
from ..media import Media, Span, find_spans
from .attachments import KIND_OF_PART, Attachments, Prepared
from .defaults import GenerationDefaults
from .foretold import Foretold
from .lengths import check_length, long_texts
from .settings import MediaSettings
from .vocabulary import check_vocabulary

if TYPE_CHECKING:
    from mlx_lm.tokenizer_utils import TokenizerWrapper


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
        """Read a checkpoint's tokenizer, chat template, generation_config.json and
        processor_config.json.

        Raises CheckpointError that names the file and the remedy; warns with
        ConfigWarning of what the last two state and is not obeyed.
        """
        tokenizer = Tokenizer(folder)
        check_vocabulary(folder, tokenizer, config)
        template = ChatTemplate.from_folder(
            folder, tokenizer.bos_token, tokenizer.eos_token, tokenizer.special_tokens
        )
        path = folder / "generation_config.json"
        generation = GenerationDefaults.from_file(path, config, tokenizer)
        media = MediaSettings.from_file(folder / "processor_config.json", config)
        return cls(tokenizer, template, config, generation, media)

    def __call__(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool = False,
        image_tokens: int | None = None,
        add_generation_prompt: bool = True,
        cached: Sequence[int] = (),
        control_tokens: bool = False,
    ) -> Inputs:
        """Render and encode a conversation, and read its media.

        image_tokens: the most soft tokens a picture may take: 70, 140, 280, 560 or
            1120; None is the checkpoint's own setting, 280 in Google's.
        cached: ids that a model has read and written before; as many of them are kept
            as is safe, where the text begins as they do.
        control_tokens: special tokens that stand in messages and tools are taken for
            ones; otherwise they are words like any others.

        Raises ChatError for what cannot be rendered and MediaError for media that
        cannot be read.
        """
        rendered = self.render(
            messages, tools, thinking, add_generation_prompt, control_tokens
        )
        return self.encode(rendered, self.attach(messages, image_tokens), cached)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool = False,
        add_generation_prompt: bool = True,
        control_tokens: bool = False,
    ) -> Rendered:
        """The text of a conversation, with a mark for each medium, none of them read.

        Raises ChatError for what cannot be rendered, or is far too long to be.
        """
        if self.config is not None:  # one made by hand may do without, for text
            for text in long_texts(messages):
                check_length(text, self.tokenizer, self.config)
        if self.template is None:
            raise ChatError(
                "This checkpoint has no chat template: pass tokens, which "
                "tokenizer.encode_text makes of a text, or add the chat_template.jinja "
                "of the original model to its folder."
            )
        return self.template.render(
            messages, tools, thinking, add_generation_prompt, control_tokens
        )

    def foretell(
        self, messages: Sequence[Mapping[str, Any]], image_tokens: int | None = None
    ) -> list[Foretold]:
        """What the media of a conversation will take of its context, about, by what
        their files say of themselves: none is decoded.

        Raises MediaError where what `attach` would refuse can be told already.
        """
        media = Attachments(self.config, self.media, self._spell, image_tokens)
        return media.foretell(messages)

    def attach(
        self,
        messages: Sequence[Mapping[str, Any]],
        image_tokens: int | None = None,
        look: Callable[[], None] | None = None,
    ) -> Attachments:
        """Read the media of a conversation. Raises MediaError as a call does.

        look: called before each, which may take long; what it raises ends the reading.
        """
        read = Attachments(self.config, self.media, self._spell, image_tokens)
        return read.read(messages, look)

    def encode(
        self, rendered: Rendered, attachments: Attachments, cached: Sequence[int] = ()
    ) -> Inputs:
        """The ids of a rendered text, with the media of its conversation in it.

        Raises ChatError for one that no context holds, before it takes the time.
        """
        if self.config is not None:
            check_length(rendered.text, self.tokenizer, self.config)
        rendered = attachments.write_into(rendered)
        tokens = self.tokenizer.continue_tokens(cached, rendered)
        spans = find_spans(tokens, attachments.attached)
        return Inputs(mx.array([tokens], dtype=mx.int32), rendered.text, spans)

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

    def prepare_message(
        self, message: Mapping[str, Any], image_tokens: int | None = None
    ) -> dict[str, Any]:
        """A message with each of its media read, as `prepare` does."""
        content = message.get("content")
        if not isinstance(content, list):
            return dict(message)
        parts = []
        for part in content:
            stated = part.get("type") if isinstance(part, Mapping) else None
            if kind := KIND_OF_PART.get(str(stated)):
                medium = self.prepare(part, image_tokens)
                part = {**part, "type": kind, kind: medium}
            parts.append(part)
        return {**message, "content": parts}

    def for_mlx_lm(self) -> "TokenizerWrapper":
        """What `mlx_lm.generate` takes for a tokenizer, which ends answers as here and
        has this template; imports mlx-lm and with it transformers."""
        from mlx_lm.tokenizer_utils import TokenizerWrapper

        tokenizer = self.tokenizer.for_transformers()
        if self.template is not None:
            tokenizer.chat_template = self.template.source
        stops = self.generation.stop_tokens
        return TokenizerWrapper(tokenizer, eos_token_ids=stops)

    def __repr__(self) -> str:
        chats = "" if self.template else ", without a chat template"
        rows = f"{self.config.text_config.token_rows:,}" if self.config else "unknown"
        return f"<Processor: {rows} tokens{chats}>"

    def _spell(self, token: int) -> str:
        return self.tokenizer.decode([token])
