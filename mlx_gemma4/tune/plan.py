"""What a run will take, before it starts: memory estimated, and one step timed.

The estimate counts what is held at once: the weights, what is learned with its
gradients and moments, what a checkpoint keeps between layers, the widest layer twice,
and one piece of the vocabulary with its gradient.
"""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from ..model import Gemma4
from .adapters import Adapter
from .examples import Encoded
from .losses import PIECE
from .settings import Settings

# Float32 arrays as wide as the activations that a layer's backward pass holds, and as
# large as a piece's logits: logits, capped, shares, their gradient, and a spare.
LAYER_COPIES, PIECE_COPIES = 3, 5


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    weights: int
    learned: int
    activations: int
    vocabulary: int

    @property
    def total(self) -> int:
        return self.weights + self.learned + self.activations + self.vocabulary


@dataclass(frozen=True)
class Plan:
    """What a run reads and learns, and the memory that it needs at its peak."""

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
    longest = max(train.longest, validation.longest)
    return Plan(
        examples=len(train.examples),
        validation=len(validation.examples),
        tokens=train.tokens,
        supervised=train.supervised,
        longest=longest,
        learned=sum(p.size for p in adapter.parameters().values()),
        steps=settings.steps,
        passes=settings.steps * settings.per_step / max(1, len(train.examples)),
        memory=estimate(model, adapter, settings, longest),
    )


def estimate(
    model: Gemma4, adapter: Adapter, settings: Settings, longest: int
) -> Memory:
    """The peak of memory for rows of `longest` tokens."""
    text = model.config.text_config
    arrays: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    own = {id(array) for array in adapter.parameters().values()}
    weights = sum(a.nbytes for a in arrays.values() if id(a) not in own)
    learned = sum(p.size for p in adapter.parameters().values())
    if adapter.kind == "full":
        weights += sum(p.nbytes for p in adapter.parameters().values())
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
    vocabulary = 4 * min(PIECE, tokens * text.vocab_size) * PIECE_COPIES
    # A parameter, both its moments, and its gradient twice: summed and of a batch.
    return Memory(weights, 4 * learned * 5, kept + LAYER_COPIES * widest, vocabulary)


def knobs(settings: Settings, plan: Plan) -> str:
    """What to turn to need less, the most effective first."""
    turns = []
    if settings.batch > 1:
        turns.append("--batch 1 with more --accumulate")
    if not settings.checkpoint:
        turns.append("--checkpoint")
    if plan.memory.activations > plan.memory.weights:
        turns.append(f"--max-length below {plan.longest}")
    if plan.memory.learned > plan.memory.activations:
        turns.append("a smaller --rank or --layers")
    turns.append("a more strongly quantised model")
    return "; ".join(turns)
