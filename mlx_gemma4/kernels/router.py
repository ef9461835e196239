"""The choice of experts: the best scores, their softmax, and a scale per expert.

The norm before the scores belongs to `add_norms`, and the scores are a product that
MLX's own kernels spread over the whole GPU, quantised or not.
"""

from typing import Any

import mlx.core as mx

from .launch import (
    DTYPES,
    MOST_ROWS,
    Function,
    Pair,
    collected,
    enabled,
    is_collecting,
    launch,
)

MOST_EXPERTS = 32 * 32  # of one bit each in every lane
MOST_CHOSEN = 32  # one for each lane


def choose_experts(
    scores: mx.array, expert_scale: mx.array, top_k: int
) -> tuple[mx.array, mx.array]:
    """`scores` [T, E], `expert_scale` [E] -> the `top_k` best experts of each token and
    their weights, [T, K] both, in any order. The softmax is taken in float32."""
    tokens, experts = scores.shape
    fits = (
        scores.dtype == expert_scale.dtype
        and scores.dtype in DTYPES
        and 0 < tokens <= MOST_ROWS
        and experts <= MOST_EXPERTS
        and top_k <= min(experts, MOST_CHOSEN)
    )
    if not enabled("router") or not fits:
        return choose_experts_plain(scores, expert_scale, top_k)
    if is_collecting():
        chosen, weights = _collected(scores, expert_scale, top_k)
    else:
        chosen, weights = _with_gradient(top_k)(scores, expert_scale)
    return chosen, weights


def _collected(scores: mx.array, expert_scale: mx.array, top_k: int) -> list[mx.array]:
    def twin(scores: mx.array, expert_scale: mx.array) -> list[mx.array]:
        return list(choose_experts_plain(scores, expert_scale, top_k))

    def pairs(ours: list[mx.array], theirs: list[mx.array]) -> list[Pair]:
        """Other experts may be as good as the twin's, so it is scores that count."""
        found = (mx.take_along_axis(scores, x[0], axis=-1) for x in (ours, theirs))
        best, expected = (mx.sort(x, axis=-1) for x in found)
        return [(best, expected), (ours[1], _weigh(scores, expert_scale, ours[0]))]

    return collected(_kernel(top_k), twin, scores, expert_scale, pairs=pairs)


def choose_experts_plain(
    scores: mx.array, expert_scale: mx.array, top_k: int
) -> tuple[mx.array, mx.array]:
    chosen = mx.argpartition(scores, kth=-top_k, axis=-1)[:, -top_k:]
    chosen = mx.stop_gradient(chosen)
    return chosen, _weigh(scores, expert_scale, chosen)


def _weigh(scores: mx.array, expert_scale: mx.array, chosen: mx.array) -> mx.array:
    logits = mx.take_along_axis(scores, chosen, axis=-1).astype(mx.float32)
    weights = mx.softmax(logits, axis=-1) * expert_scale[chosen]
    return weights.astype(scores.dtype)


def _kernel(top_k: int) -> Function:
    def kernel(scores: mx.array, expert_scale: mx.array) -> list[mx.array]:
        tokens, experts = scores.shape
        return launch(
            "router",
            {"scores": scores, "expert_scale": expert_scale},
            {
                "chosen": ((tokens, top_k), mx.uint32),
                "weights": ((tokens, top_k), scores.dtype),
            },
            grid=(tokens * 32, 1, 1),
            threadgroup=(32, 1, 1),
            template=[("T", scores.dtype), ("K", top_k), ("HELD", -(-experts // 32))],
        )

    return kernel


def _with_gradient(top_k: int) -> Function:
    """The kernel, with the gradient of the weights of what it has chosen."""
    function: Any = mx.custom_function(_kernel(top_k))

    @function.vjp
    def _(primals: Any, cotangents: Any, outputs: Any) -> Any:
        def weigh(scores: mx.array, expert_scale: mx.array) -> mx.array:
            return _weigh(scores, expert_scale, outputs[0])

        return mx.vjp(weigh, list(primals), [cotangents[1]])[1]

    return function
