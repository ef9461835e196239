"""Several conversions of one model run before any is made, and beside its source.

The layers are read one after the other, and the text goes through each in every
version: memory holds one layer, as plain numbers, and the states of the text. What a
version has packed is packed, and unpacked, as the conversion itself does it; all is
computed in float32.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import mlx.core as mx
import numpy as np

from mlx_gemma4.cache import Seen
from mlx_gemma4.checkpoint.names import in_layer, place
from mlx_gemma4.config import SLIDING, Config, TextConfig
from mlx_gemma4.layers import soft_cap
from mlx_gemma4.rope import Rotation
from mlx_gemma4.text.decoder import DecoderLayer, TextModel
from mlx_gemma4.text.masks import Band, Mask

from .blocks import BLOCK, most_rows
from .check import Fidelity
from .divergence import Divergence, Predictions
from .output import CONFIG
from .plan import TensorPlan
from .quantize import DTYPES
from .source import Source
from .stream import Computed, computed, packed

EMBEDDING = "language_model.embed_tokens.weight"
TABLE = "language_model.embed_tokens_per_layer.weight"
HEAD = "lm_head.weight"

Version = Mapping[str, TensorPlan]  # what is packed, by the source's names
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Text:
    """Pieces of text as one batch: ids [B, L], filled up at the end.

    following: what comes next, [T], at the positions `scored` of the B * L.
    """

    tokens: np.ndarray
    following: mx.array
    scored: mx.array

    @classmethod
    def of(cls, pieces: Sequence[Sequence[int]], pad: int) -> "Text":
        """pieces: of two tokens at least, each of which is read by itself."""
        length = max(len(piece) for piece in pieces) - 1
        tokens = np.full((len(pieces), length), pad, np.int64)
        scored, following = list[int](), list[int]()
        for i, piece in enumerate(pieces):
            tokens[i, : len(piece) - 1] = piece[:-1]
            scored += range(i * length, i * length + len(piece) - 1)
            following += piece[1:]
        return cls(tokens, mx.array(following), mx.array(scored))


@dataclass
class _Run:
    """A version of the model, and how far the text is in it."""

    version: Version
    h: mx.array  # [B, L, hidden]
    inputs: Sequence[mx.array | None]
    seen: dict[int, Seen]

    def branch(self, version: Version) -> "_Run":
        return replace(self, version=version, seen=dict(self.seen))


class Layerwise:
    """A source whose versions are compared with it on a text.

    tensors: of its plan, all stored as plain numbers; packings do not matter here.
    """

    def __init__(self, source: Source, tensors: Iterable[TensorPlan]) -> None:
        config = Config.from_file(source.folder / CONFIG)
        self.config: TextConfig = config.text_config
        self.placeholders = config.placeholders
        self.source = source
        self.tensors = {place(t.name).parameter: _bare(t) for t in tensors}
        self.reader = source.reader()

    def close(self) -> None:
        self.reader.close()

    def steps(self, versions: Sequence[Version]) -> int:
        """How often `compare` calls its `advance`."""
        count = self.config.num_hidden_layers
        return count + sum(count - self._first(version) for version in versions)

    def compare(
        self,
        versions: Sequence[Version],
        text: Text,
        advance: Advance = lambda count: None,
    ) -> list[Fidelity]:
        """How far each version's predictions are from the source's.

        advance: called with 1 for each layer of each version.
        Raises CheckpointError where the source is damaged.
        """
        media = np.isin(text.tokens, self.placeholders)
        tokens = np.where(media, self.config.pad_token_id, text.tokens)
        ids, compact = np.unique(tokens, return_inverse=True)
        places = mx.array(compact.reshape(text.tokens.shape))
        begin = partial(self._begin, TextModel(self.config), ids, places)
        runs = [begin({}), *(begin(v) for v in versions if self._first(v) == 0)]
        runs = self._layers(runs, versions, advance)
        by_version = {id(run.version): run for run in runs}
        ordered = [by_version.get(id(v)) or runs[0].branch(v) for v in versions]
        return self._heads([runs[0], *ordered], text)

    def _first(self, version: Version) -> int:
        """The first layer before which, or in which, something is another."""
        found = [in_layer(place(name).parameter) for name in version]
        first = min((each[0] if each else 0 for each in found), default=0)
        return 0 if not version else first

    def _begin(
        self, text: TextModel, ids: np.ndarray, tokens: mx.array, version: Version
    ) -> _Run:
        """The text before the first layer; the tables hold the rows of `ids` alone."""
        text.embed_tokens.weight = self._rows(EMBEDDING, version, ids)
        if text.per_layer_size:
            text["embed_tokens_per_layer"].weight = self._rows(TABLE, version, ids)
            for name in ("per_layer_model_projection", "per_layer_projection_norm"):
                tensor = self._tensor(f"language_model.{name}.weight", version)
                text[name].weight = self._weight(tensor)
        h = text.embed(tokens)
        inputs = text.per_layer_inputs(tokens, h)
        mx.eval(h, [each for each in inputs if each is not None])
        return _Run(version, h, inputs, {})

    def _layers(
        self,
        runs: list[_Run],
        versions: Sequence[Version],
        advance: Advance,
    ) -> list[_Run]:
        text = TextModel(self.config)
        batch, length, _ = runs[0].h.shape
        masks = text.masks(length)
        rotations = text.rotations(mx.array([0], mx.int32), length, mx.float32)
        if isinstance(band := masks[SLIDING], Band) and band.blocks > 1:
            masks[SLIDING] = band.rotating(rotations[SLIDING], batch)
        for i, kind in enumerate(self.config.layer_types):
            begun = [v for v in versions if i and self._first(v) == i]
            runs += [runs[0].branch(version) for version in begun]
            layer = _Layer(self, i)
            source = text.kv_sources[i]
            for run in runs:
                layer.take(run.version)
                layer.run(run, source, masks[kind], rotations[kind])
                advance(1)
            mx.clear_cache()
        return runs

    def _heads(self, runs: list[_Run], text: Text) -> list[Fidelity]:
        norm = self._weight(self.tensors["language_model.norm.weight"])
        eps, cap = self.config.rms_norm_eps, self.config.final_logit_softcapping
        states = []
        for run in runs:
            flat = run.h.reshape(-1, run.h.shape[-1])[text.scored]
            states.append(mx.fast.rms_norm(flat, norm, eps))
        name = EMBEDDING if self.config.tie_word_embeddings else HEAD
        heads = [self._tensor(name, run.version) for run in runs]
        distinct = list({_packing(head): head for head in heads}.values())
        which = [[_packing(d) for d in distinct].index(_packing(h)) for h in heads]
        source = Predictions(text.following)
        found = [Divergence(text.following) for _ in runs[1:]]
        limit = most_rows(heads[0], BLOCK)
        slices = [computed(head, self.reader, limit) for head in distinct]
        for parts in zip(*slices, strict=True):
            weights = [
                numbers(p, head) for p, head in zip(parts, distinct, strict=True)
            ]
            before = source.total
            logits = [
                _capped(x @ weights[w].T, cap)
                for x, w in zip(states, which, strict=True)
            ]
            source.add(parts[0].block.first, logits[0])
            for each, own in zip(found, logits[1:], strict=True):
                each.add(parts[0].block.first, logits[0], own, before)
        return [each.fidelity(source) for each in found]

    def _tensor(self, parameter: str, version: Version) -> TensorPlan:
        bare = self.tensors[parameter]
        return version.get(bare.name, bare)

    def _rows(self, parameter: str, version: Version, ids: np.ndarray) -> mx.array:
        """Rows of a table in float32, packed and unpacked as the version has them."""
        tensor = self._tensor(parameter, version)
        rows = [self.reader.rows(tensor.first, int(i), 1, tensor.rows) for i in ids]
        return numbers(packed(tensor, [np.concatenate(rows)]), tensor)

    def _weight(self, tensor: TensorPlan) -> mx.array:
        """A whole weight in float32, in the source's shape."""
        found = np.empty((tensor.rows, tensor.inputs), np.float32)
        for part in computed(tensor, self.reader, most_rows(tensor, BLOCK)):
            first = part.block.first
            found[first : first + part.block.count] = numbers(part, tensor)
        return mx.array(found).reshape(tensor.shape)


class _Layer:
    """One layer of the source, which can take what a version has in its place."""

    def __init__(self, model: Layerwise, number: int) -> None:
        self.model, self.number = model, number
        self.module = DecoderLayer(model.config, number)
        start = f"language_model.layers.{number}."
        self.paths = {
            tensor.name: name.removeprefix(start)
            for name, tensor in model.tensors.items()
            if name.startswith(start)
        }
        self.bare = {
            path: model._weight(model.tensors[start + path])
            for path in self.paths.values()
        }
        self.module.load_weights(list(self.bare.items()))
        self.taken: dict[str, TensorPlan] = {}

    def take(self, version: Version) -> None:
        """Changes what is not yet as `version` has it."""
        wanted = {name: version[name] for name in self.paths if name in version}
        new = list[tuple[str, mx.array]]()
        for name in self.taken.keys() - wanted.keys():
            new.append((self.paths[name], self.bare[self.paths[name]]))
        for name, tensor in wanted.items():
            now = self.taken.get(name)
            if now is None or _packing(now) != _packing(tensor):
                new.append((self.paths[name], self.model._weight(tensor)))
        self.module.load_weights(new, strict=False)
        self.taken = wanted

    def run(self, run: _Run, source: int, mask: Mask, rotation: Rotation) -> None:
        """Takes `run` through the layer. source: whose keys and values it reads."""
        attention = self.module.self_attn
        x = self.module.input_layernorm(run.h)
        queries, new = attention.queries_keys_values(x, rotation, mask)
        if new:
            run.seen[self.number] = Seen.all_of(new)
        found = attention(queries, run.seen[source], rotation, mask)
        run.h, _ = self.module(run.h, found, run.inputs[self.number])
        mx.eval(run.h, new)


def _bare(tensor: TensorPlan) -> TensorPlan:
    """As the source has it."""
    dtype = tensor.first.dtype
    return replace(tensor, packing=None, grid=None, dtype=dtype, note=None)


def _packing(tensor: TensorPlan) -> tuple[object, ...]:
    return tensor.packing, tensor.grid


def _capped(logits: mx.array, cap: float | None) -> mx.array:
    return soft_cap(logits, cap) if cap else logits


def numbers(part: Computed, tensor: TensorPlan) -> mx.array:
    """The weights of a block, [rows, inputs] in float32."""
    parts = {name: _array(array, tensor) for name, array in part.parts.items()}
    if "" in parts:
        return parts[""].astype(mx.float32)
    packing = tensor.packing
    assert packing is not None
    scales = [parts["scales"], *([parts["biases"]] if "biases" in parts else [])]
    if packing.mode == "affine":
        scales = [each.astype(mx.float32) for each in scales]
    return mx.dequantize(
        parts["weight"],
        *scales,
        group_size=packing.group_size,
        bits=packing.bits,
        mode=packing.mode,
        dtype=mx.float32,
    )


def _array(array: mx.array | np.ndarray, tensor: TensorPlan) -> mx.array:
    """numpy has no bfloat16: as uint16 it comes."""
    if isinstance(array, mx.array):
        return array
    bits = mx.array(array)
    is_bfloat16 = array.dtype == np.uint16 and DTYPES.get(tensor.dtype) == mx.bfloat16
    return bits.view(mx.bfloat16) if is_bfloat16 else bits
