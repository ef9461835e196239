"""Gemma 4 as one module: tokens and media to logits.

Parameter names are the Hub's without the leading `model.`. The call signature is also
the one mlx-lm expects of a model.
"""

from collections.abc import Sequence
from typing import Any, Protocol, cast

import mlx.core as mx
import mlx.nn as nn

from .assistant.drafter import Drafter
from .audio.tower import AudioTower
from .cache import LayerCache, make_cache
from .config import AudioConfig, Config, TextConfig, VisionConfig
from .device import Room
from .errors import MediaError
from .kernels import dense
from .layers import Projector, soft_cap, weights_bytes
from .media import Kind, Media
from .reading.sizes import size
from .text.decoder import DecoderLayer, TextModel
from .text.masks import vision_blocks
from .vision.embedder import VisionEmbedder
from .vision.tower import VisionTower


class Lead(Protocol):
    """Has other processes compute with their parts of a model as this one does.

    part: the sizes of this process's. room: of the process that has the least left.
    """

    part: TextConfig | None
    room: Room | None

    def hidden(
        self,
        model: "Gemma4",
        inputs: mx.array,
        cache: Sequence[LayerCache] | None,
        embeddings: mx.array | None,
        last_only: bool,
        caches_only: bool,
    ) -> mx.array:
        """`model.own_hidden` of all."""
        ...

    def together(
        self, model: "Gemma4", step: Any, tokens: mx.array, caches: Any
    ) -> Any:
        """`step` of all, which decodes a token of each of several answers."""
        ...


class Gemma4(nn.Module):
    """A Gemma 4 model built from `config`, with untrained weights."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        text = config.text_config
        self.language_model = TextModel(text)
        if not text.tie_word_embeddings:
            self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        if vision := config.vision_config:
            if isinstance(vision, VisionConfig):
                self.vision_tower = VisionTower(vision)
            else:
                self.vision_embedder = VisionEmbedder(vision)
            self.embed_vision = Projector(
                vision.soft_width, text.hidden_size, vision.rms_norm_eps
            )
        if audio := config.audio_config:
            if isinstance(audio, AudioConfig):
                self.audio_tower = AudioTower(audio)
            self.embed_audio = Projector(
                audio.soft_width, text.hidden_size, audio.rms_norm_eps
            )
        # What decoding keeps: its step, what drafts tokens, and what it knows of those.
        self.step: object = None
        self.drafter: Drafter | None = None
        self.paces: object = None
        self.lead: Lead | None = None  # of others that hold parts of it
        self._vision_ids = _known(config.image_token_id, config.video_token_id)

    def __repr__(self) -> str:  # of nn.Module, a page
        towers = {"embed_vision": "sees", "embed_audio": "hears"}
        senses = [does for tower, does in towers.items() if tower in self]
        told = [f"{len(self.layers)} layers", *senses, size(self.nbytes)]
        return f"<Gemma4: {', '.join(told)}>"

    @property
    def nbytes(self) -> int:
        """What its weights take."""
        return weights_bytes(self)

    @property
    def layers(self) -> list[DecoderLayer]:
        return self.language_model.layers

    @property
    def model_type(self) -> str:
        return self.config.model_type

    def make_cache(self, kv_bits: int | None = None) -> list[LayerCache]:
        """An empty cache for one conversation (or one batch of equal lengths).

        kv_bits: 8 packs what full layers hold behind a beginning, in half the memory.
        """
        return make_cache(self.config.text_config, kv_bits=kv_bits)

    def __call__(
        self,
        inputs: mx.array,
        cache: Sequence[LayerCache] | None = None,
        input_embeddings: mx.array | None = None,
        media: Media | None = None,
        last_only: bool = False,
    ) -> mx.array:
        """Logits [B, L, vocab] after the soft cap; [B, 1, vocab] with `last_only`.

        inputs: token ids [B, L]. Each must have a row in the tables
            (`config.has_row`): here, where ids may not be known yet, nobody looks.
        cache: from `make_cache`; the call appends to it. None reads `inputs` alone.
        input_embeddings: [B, L, hidden], scaled, to use instead of the ids' own.
        media: what the placeholders among `inputs` stand for, all of it. A picture
            must not be cut by the end of `inputs`.
        """
        h = self.hidden(inputs, cache, input_embeddings, media, last_only)
        return self.logits(h)

    def hidden(
        self,
        inputs: mx.array,
        cache: Sequence[LayerCache] | None = None,
        input_embeddings: mx.array | None = None,
        media: Media | None = None,
        last_only: bool = False,
        caches_only: bool = False,
    ) -> mx.array:
        """What `logits` makes the same call's logits of: [B, L, hidden], normed.

        caches_only: nobody will look at it.
        """
        if media is not None:
            input_embeddings = self.embed(inputs, media)
        rest = cache, input_embeddings, last_only
        if self.lead is not None:
            return self.lead.hidden(self, inputs, *rest, caches_only)
        return self.own_hidden(inputs, *rest)

    def own_hidden(
        self,
        inputs: mx.array,
        cache: Sequence[LayerCache] | None,
        input_embeddings: mx.array | None,
        last_only: bool,
    ) -> mx.array:
        """The same in this process alone, whose part of the model may not be all."""
        blocks = None if input_embeddings is None else self.vision_blocks(inputs)
        tokens = self.text_tokens(inputs)
        return self.language_model(tokens, cache, input_embeddings, blocks, last_only)

    def logits(self, h: mx.array) -> mx.array:
        """Logits [..., vocab] of hidden states [..., hidden], after the soft cap."""
        cap = self.config.text_config.final_logit_softcapping
        return soft_cap(self.head(h), cap) if cap else self.head(h)

    def head(self, h: mx.array) -> mx.array:
        """The same before the soft cap: linear in `h`."""
        tied = self.config.text_config.tie_word_embeddings
        return dense(self.language_model.embed_tokens if tied else self.lm_head, h)

    def embed(self, inputs: mx.array, media: Media) -> mx.array:
        """Embeddings [B, L, hidden] of `inputs` [B, L] with media in their places.

        Raises MediaError where placeholders and media do not match in number.
        """
        config = self.config
        h = self.language_model.embed(self.text_tokens(inputs))
        flat = h.reshape(-1, h.shape[-1])
        kinds: tuple[tuple[Kind, int | None, mx.array], ...] = (
            ("image", config.image_token_id, self._see(media.images)),
            ("video", config.video_token_id, self._see(media.frames)),
            ("audio", config.audio_token_id, self._hear(media.audio)),
        )
        for kind, token, soft in kinds:
            places = media.places(kind)
            if places is None:
                tokens = cast(list[int], inputs.flatten().tolist())
                places = [i for i, t in enumerate(tokens) if t == token]
            if len(places) != len(soft):
                raise MediaError(
                    f"The prompt has {len(places)} {kind} placeholders, but its media "
                    f"give {len(soft)} soft tokens."
                )
            if places:
                flat[mx.array(places)] = soft.astype(h.dtype)
        return flat.reshape(h.shape)

    def _see(self, pictures: Sequence[tuple[mx.array, mx.array]]) -> mx.array:
        """Embeddings [S, hidden] of all soft tokens of `pictures`."""
        if not pictures:
            return mx.zeros((0, 1))
        if self.config.vision_config is None:
            raise MediaError("This model cannot see pictures.")
        eye = self.vision_tower if "vision_tower" in self else self.vision_embedder
        soft: list[mx.array] = []
        for picture in pictures:
            soft.append(eye(*_unpadded(*picture)))
            if len(pictures) > 1:  # MLX would work at several at once, and hold all
                mx.eval(soft[-1])
        return self.embed_vision(mx.concatenate(soft))

    def _hear(self, clips: Sequence[tuple[mx.array, mx.array]]) -> mx.array:
        """Embeddings [S, hidden] of all soft tokens of `clips`."""
        if not clips:
            return mx.zeros((0, 1))
        if self.config.audio_config is None:
            raise MediaError("This model cannot hear.")
        soft = [_heard(*clip) for clip in clips]
        if "audio_tower" in self:
            soft = [self.audio_tower(features) for features in soft]
        return self.embed_audio(mx.concatenate(soft))

    def text_tokens(self, inputs: mx.array) -> mx.array:
        """`inputs` [B, L] with pad for placeholders of media, as both embedding tables
        take them."""
        media = self.config.placeholders
        if not media:
            return inputs
        pad = self.config.text_config.pad_token_id
        return mx.where(_is_one_of(inputs, media), pad, inputs)

    def vision_blocks(self, inputs: mx.array) -> mx.array | None:
        """The number of each position's picture [B, L], -1 outside of all; None where
        the model reads pictures as it reads text, in one direction."""
        if self.config.text_config.use_bidirectional_attention != "vision":
            return None
        return vision_blocks(_is_one_of(inputs, self._vision_ids))


def _unpadded(pixels: mx.array, positions: mx.array) -> tuple[mx.array, mx.array]:
    """The patches of a picture without padding, whose positions are -1."""
    columns = cast(list[int], positions[:, 0].tolist())
    real = [i for i, x in enumerate(columns) if x >= 0]
    if len(real) == len(positions):
        return pixels, positions
    rows = mx.array(real)
    return pixels[rows], positions[rows]


def _heard(features: mx.array, mask: mx.array) -> mx.array:
    """The frames of a clip without padding, which must stand at the end."""
    valid = cast(int, mask.sum().item())
    if not mask[:valid].all().item():
        raise MediaError("An audio mask has gaps; only its end may be padding.")
    return features[:valid]


def _known(*ids: int | None) -> tuple[int, ...]:
    return tuple(i for i in ids if i is not None)


def _is_one_of(tokens: mx.array, ids: tuple[int, ...]) -> mx.array:
    return (tokens[..., None] == mx.array(ids, tokens.dtype)).any(axis=-1)
