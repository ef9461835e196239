"""A model of which this process holds a part."""

from dataclasses import dataclass

import mlx.core as mx

from ..model import Gemma4
from ..text.shares import Share
from .plan import ShardPlan


@dataclass(frozen=True)
class Part:
    """A part, and those with whom its sums are shared."""

    plan: ShardPlan
    group: mx.distributed.Group


def take_part(model: Gemma4, part: Part) -> None:
    """Leaves of `model`, whose weights are still to come, what belongs to `part`."""
    plan = part.plan
    for name in plan.without:
        model.pop(name, None)
    modules = dict(model.named_modules())
    for path, cut in plan.cuts.items():
        if path not in modules:  # where values are keys, or others' are read
            continue
        module = modules[path]
        for name, array in [*module.items()]:
            if isinstance(array, mx.array):
                module[name] = cut.of(array)
    for layer, own in zip(model.layers, plan.layers, strict=True):
        layer.self_attn.heads, layer.self_attn.kv_heads = own.heads, own.kv_heads
        if own.experts is not None:
            layer.experts.held = own.experts
        summed = (own.mlp, own.experts is not None)
        layer.share = Share(part.group, own.attention, summed)
