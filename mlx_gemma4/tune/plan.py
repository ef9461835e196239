"""What a run will take, before it starts: memory estimated, and one step timed.

The estimate counts what is held at once: the weights, what is learned with its
gradients and moments, what a checkpoint keeps between layers, copies of the widest
layer and of one piece of the vocabulary, and what media take in the towers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from ..config.fields import TextConfig
from ..model import Gemma4
from .adapters import Adapter, Kind
from .examples import Encoded, Example
from .losses import PIECE
from .plan_towers import tower_memory
from .settings import Settings

# Float32 arrays as wide as the activations that a layer's backward pass holds, and as
# large as a piece's logits: logits, capped, shares, their gradient, and a spare.
LAYER_COPIES, PIECE_COPIES = 3, 5


@dataclass(frozen=True)
class Memory:
    """Bytes.

    learned: what is learned in float32, both its moments, and its gradients. Of kind
    "full" these are master weights beside those that the model computes with.
    update: the state after a step, beside the one before it.
    towers: what their layers keep where they are trained, and what a medium's widest
        layer takes beyond the text's.
    media: what is kept of those that were read, for every pass.
    """

    weights: int
    learned: int
    update: int
    activations: int
    vocabulary: int
    towers: int
    media: int = 0

    @property
    def total(self) -> int:
        """At its peak: nothing of a batch is left when its gradient is applied."""
        batch = self.activations + self.vocabulary + self.towers
        held = self.weights + self.learned + self.media
        return held + max(batch, self.update)


@dataclass(frozen=True)
class Plan:
    """What a run reads and learns, and the memory that it needs at its peak."""

    kind: Kind
    examples: int
    validation: int
    tokens: int
    supervised: int
    longest: int
    learned: int
    steps: int
    passes: float
    memory: Memory

    def as_dict(self) -> dict[str, Any]:
        return {
            **vars(self),
            "memory": {**vars(self.memory), "total": self.memory.total},
        }


def make_plan(
    model: Gemma4,
    adapter: Adapter,
    settings: Settings,
    train: Encoded,
    validation: Encoded,
) -> Plan:
    """The plan of a run with these settings."""
    examples = [*train.examples, *validation.examples]
    memory = estimate(model, adapter, settings, examples)
    return Plan(
        kind=adapter.kind,
        examples=len(train.examples),
        validation=len(validation.examples),
        tokens=train.tokens,
        supervised=train.supervised,
        longest=max(train.longest, validation.longest),
        learned=sum(p.size for p in adapter.parameters().values()),
        steps=settings.steps,
        passes=settings.steps * settings.per_step / max(1, len(train.examples)),
        memory=replace(memory, media=train.kept + validation.kept),
    )


def estimate(
    model: Gemma4, adapter: Adapter, settings: Settings, examples: Sequence[Example]
) -> Memory:
    """The peak of memory for rows of these examples."""
    arrays: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    own = adapter.parameters()
    apart = {id(array) for array in own.values() if array.dtype == mx.float32}
    learned = sum(p.size for p in own.values())
    batch = sum(p.nbytes for p in own.values())
    longest = max((len(example.tokens) for example in examples), default=0)
    kept, widest = _layers(model.config.text_config, settings, longest)
    activations = kept + LAYER_COPIES * widest
    rows = settings.batch * longest * model.config.text_config.vocab_size
    vocabulary = 4 * min(PIECE, rows) * PIECE_COPIES
    targets = settings.adapter.targets
    seen, layer = tower_memory(model.config, targets, examples, settings.batch)
    # In float32 a parameter, both its moments and their gradient; and a batch's own.
    return Memory(
        weights=sum(a.nbytes for a in arrays.values() if id(a) not in apart),
        learned=4 * learned * 4 + batch,
        update=4 * learned * 3 - batch,
        activations=activations,
        vocabulary=vocabulary,
        towers=seen + max(0, LAYER_COPIES * layer - activations - vocabulary),
    )


def _layers(text: TextConfig, settings: Settings, longest: int) -> tuple[int, int]:
    """Bytes that all layers keep for their gradient, and of the widest one."""
    tokens = settings.batch * longest
    kept, widest = 0, 0
    for i in range(text.num_hidden_layers):
        heads = text.num_attention_heads * text.layer_head_dim(i)
        pair = 2 * text.layer_key_value_heads(i) * text.layer_head_dim(i)
        wide = text.intermediate_size * (2 if text.use_double_wide_mlp else 1)
        if text.num_experts:
            wide += (text.top_k_experts or 0) * (text.moe_intermediate_size or 0) * 2
        reach = min(longest, text.sliding_window if text.is_sliding(i) else longest)
        scores = text.num_attention_heads * reach
        layer = 4 * tokens * (8 * text.hidden_size + 3 * wide + 4 * heads + 2 * scores)
        kept += 4 * tokens * (text.hidden_size + pair)
        widest = max(widest, layer)
        if not settings.checkpoint:
            kept += layer
    return kept, widest


def knobs(settings: Settings, plan: Plan) -> str:
    """What to turn to need less, the most effective first."""
    turns = []
    if settings.batch > 1:
        turns.append("--batch 1 with more --accumulate")
    if not settings.checkpoint:
        turns.append("--checkpoint")
    if plan.memory.activations > plan.memory.weights:
        turns.append(f"--max-length below {plan.longest}")
    if plan.memory.towers > plan.memory.activations:
        turns.append("--image-tokens 70, or shorter recordings")
    if plan.kind == "full":
        turns.append("an adapter (--kind lora)")
    elif plan.memory.learned > plan.memory.activations:
        turns.append("a smaller --rank or --layers")
    turns.append("a more strongly quantised model")
    return "; ".join(turns)
