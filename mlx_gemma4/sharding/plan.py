"""Which part of a model each of several processes holds: from numbers alone.

Attention is cut by heads, the feed-forward network by its width, experts by their
number. What cannot be cut so, and what is small, every process holds whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx

from ..checkpoint.packing import Packing
from ..config import TextConfig

LAYERS = "language_model.layers"
# Parts that only the first process needs: it sends the others what it sees and hears.
SENSES = (
    "vision_tower",
    "vision_embedder",
    "embed_vision",
    "audio_tower",
    "embed_audio",
)


@dataclass(frozen=True)
class Cut:
    """From the `start`-th to the `stop`-th of `whole` equal pieces along an axis."""

    axis: int
    start: int
    stop: int
    whole: int

    def of(self, x: mx.array) -> mx.array:
        size = x.shape[self.axis] // self.whole
        index = [slice(None)] * x.ndim
        index[self.axis] = slice(size * self.start, size * self.stop)
        return x[tuple(index)]

    def share(self, count: int) -> int:
        """What is left of `count`, which is spread evenly along the axis."""
        return count * (self.stop - self.start) // self.whole


@dataclass(frozen=True)
class LayerPart:
    """What of a layer is a part, and has to be summed over all processes.

    heads, kv_heads: those of the part. experts: the numbers of its experts, or None.
    """

    attention: bool
    heads: int
    kv_heads: int
    mlp: bool
    experts: range | None


@dataclass(frozen=True)
class ShardPlan:
    """The part of process `rank` of `ranks`.

    cuts: by the path of a module, for all its parameters.
    without: modules that this process does not hold at all.
    whole: what every process holds whole though it could have been cut, and why.
    """

    rank: int
    ranks: int
    cuts: Mapping[str, Cut]
    layers: Sequence[LayerPart]
    without: Sequence[str]
    whole: Sequence[str]

    def holds(self, parameter: str) -> bool:
        return parameter.partition(".")[0] not in self.without

    def cut(self, parameter: str) -> Cut | None:
        return self.cuts.get(parameter.rpartition(".")[0])

    def config_of_part(self, config: TextConfig) -> TextConfig:
        """`config` with the heads that this process has, at most, of each kind."""
        kinds: dict[bool, int] = {}
        for i, layer in enumerate(self.layers):
            kind = config.is_sliding(i) or not config.attention_k_eq_v
            kinds[kind] = max(kinds.get(kind, 0), layer.kv_heads)
        return replace(
            config,
            num_attention_heads=max(layer.heads for layer in self.layers),
            num_key_value_heads=kinds.get(True, config.num_key_value_heads),
            num_global_key_value_heads=kinds.get(
                False, config.num_global_key_value_heads
            ),
        )

    def share(self, parameter: str, nbytes: int) -> int:
        """How many of the bytes of a parameter this process holds."""
        if not self.holds(parameter):
            return 0
        cut = self.cut(parameter)
        return nbytes if cut is None else cut.share(nbytes)


def plan_shards(
    config: TextConfig, packings: Mapping[str, Packing], rank: int, ranks: int
) -> ShardPlan:
    """What process `rank` of `ranks` holds of a model with these `packings`."""
    attention = _Attention(config, packings, rank, ranks)
    cuts: dict[str, Cut] = {}
    layers, whole = [], dict[str, None]()
    for i in range(config.num_hidden_layers):
        path = f"{LAYERS}.{i}"
        if why := attention.obstacle(i):
            whole[f"attention of {config.layer_types[i]} layers: {why}"] = None
        else:
            cuts |= attention.cuts(i)
        width = _width(config, i)
        mlp = _by_width(f"{path}.mlp", width, packings, rank, ranks)
        if not mlp:
            whole[f"feed-forward networks: {width} inputs in {ranks} parts"] = None
        cuts |= mlp
        experts = _experts(config, rank, ranks)
        if experts is not None:
            cut = Cut(0, experts.start, experts.stop, config.num_experts or 0)
            for name in ("gate_up_proj", "down_proj"):
                cuts[f"{path}.experts.{name}"] = cut
        kv_heads = config.layer_key_value_heads(i)
        layers.append(
            LayerPart(
                not why,
                config.num_attention_heads // (1 if why else ranks),
                kv_heads if why else max(1, kv_heads // ranks),
                bool(mlp),
                experts,
            )
        )
    without = SENSES if rank else ()
    return ShardPlan(rank, ranks, cuts, layers, without, list(whole))


@dataclass(frozen=True)
class _Attention:
    """Heads, and with each the keys and values that it reads."""

    config: TextConfig
    packings: Mapping[str, Packing]
    rank: int
    ranks: int

    def obstacle(self, layer: int) -> str | None:
        """Why a layer's heads are not cut. Layers that share keys and values go
        together."""
        config, ranks = self.config, self.ranks
        heads, kv_heads = (
            config.num_attention_heads,
            config.layer_key_value_heads(layer),
        )
        if config.attention_bias:
            return "its outputs have a bias"
        if heads % ranks:
            return f"{heads} heads in {ranks} parts"
        if kv_heads % ranks and ranks % kv_heads:
            return f"{kv_heads} heads of keys and values in {ranks} parts"
        width = heads // ranks * config.layer_head_dim(layer)
        source = config.kv_source(layer)
        for i in range(config.num_hidden_layers):
            packing = self.packings.get(f"{LAYERS}.{i}.self_attn.o_proj")
            together = config.kv_source(i) == source
            if together and packing and width % packing.group_size:
                return f"{width} inputs in groups of {packing.group_size}"
        return None

    def cuts(self, layer: int) -> dict[str, Cut]:
        kv_heads, path = (
            self.config.layer_key_value_heads(layer),
            f"{LAYERS}.{layer}.self_attn",
        )
        rank, ranks = self.rank, self.ranks
        cuts = {
            f"{path}.q_proj": Cut(-2, rank, rank + 1, ranks),
            f"{path}.o_proj": Cut(-1, rank, rank + 1, ranks),
        }
        if kv_heads % ranks == 0:
            own = Cut(-2, rank, rank + 1, ranks)
        else:  # that head which the part's queries read
            head = rank * kv_heads // ranks
            own = Cut(-2, head, head + 1, kv_heads)
        return cuts | {f"{path}.{name}": own for name in ("k_proj", "v_proj")}


def _width(config: TextConfig, layer: int) -> int:
    shared = layer >= config.first_kv_shared_layer
    return config.intermediate_size * (
        2 if config.use_double_wide_mlp and shared else 1
    )


def _by_width(
    path: str, width: int, packings: Mapping[str, Packing], rank: int, ranks: int
) -> dict[str, Cut]:
    """A GeGLU network, between two groups of its last map; none where there are fewer
    groups than parts. Parts may differ by a group."""
    packing = packings.get(f"{path}.down_proj")
    groups = width // (packing.group_size if packing else 1)
    own = _share(groups, rank, ranks)
    if groups < ranks:
        return {}
    rows, columns = (Cut(axis, own.start, own.stop, groups) for axis in (-2, -1))
    return {
        f"{path}.gate_proj": rows,
        f"{path}.up_proj": rows,
        f"{path}.down_proj": columns,
    }


def _experts(config: TextConfig, rank: int, ranks: int) -> range | None:
    count = config.num_experts if config.enable_moe_block else None
    if not count or count < ranks:
        return None
    return _share(count, rank, ranks)


def _share(count: int, rank: int, ranks: int) -> range:
    return range(count * rank // ranks, count * (rank + 1) // ranks)
