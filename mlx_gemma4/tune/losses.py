"""Cross-entropy over a large vocabulary, in pieces and where something is learned.

The logits of 2,048 tokens over 262,144 words take 2.1 GB in float32, and as much again
for each step of their gradient. Here they exist for a few rows at a time: every piece
gives its loss and its gradient at once, and the next one waits for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import mlx.core as mx

from ..model import Gemma4

PIECE = 2**25  # logits of a piece: 134 MB in float32


@dataclass(frozen=True)
class Score:
    """Of learned tokens: how many, their summed loss in nats, how many were likeliest,
    and for each row whether all of its tokens were."""

    tokens: int
    loss: float
    correct: int
    exact: int = 0
    rows: int = 0


def logits(model: Gemma4, h: mx.array) -> mx.array:
    """Logits [N, vocab], float32 and capped, of hidden states [N, hidden]."""
    return model.logits(h).astype(mx.float32)


def summed_loss(
    model: Gemma4, h: mx.array, targets: mx.array, piece: int = PIECE
) -> mx.array:
    """Sum over N tokens of -log p(target), a float32 scalar, differentiable in `h`.

    h: [N, hidden] at the positions before the targets. targets: ids [N].
    The head itself is never learned and gets no gradient.
    """

    @mx.custom_function
    def loss(h: mx.array) -> tuple[mx.array, mx.array]:
        return _loss_and_gradient(model, h, targets, piece)

    @loss.vjp
    def backward(primals: object, cotangents: object, outputs: object) -> mx.array:
        (cotangent, _), (_, gradient) = (
            cast(tuple[mx.array, mx.array], pair) for pair in (cotangents, outputs)
        )
        return (cotangent * gradient).astype(h.dtype)

    value, _ = cast(tuple[mx.array, mx.array], loss(h))
    return value


def _loss_and_gradient(
    model: Gemma4, h: mx.array, targets: mx.array, piece: int
) -> tuple[mx.array, mx.array]:
    total = mx.array(0.0)
    gradients: list[mx.array] = []
    for start, end in _pieces(model, h.shape[0], piece):
        rows = h[start:end]
        if gradients:  # or all pieces would be computed side by side
            rows = mx.depends([rows], [gradients[-1], total])[0]
        value, gradient = _piece(model, rows, targets[start:end])
        total = total + value
        gradients.append(gradient)
    return total, mx.concatenate(gradients)


def _piece(
    model: Gemma4, rows: mx.array, targets: mx.array
) -> tuple[mx.array, mx.array]:
    """Summed loss of some rows, and its gradient.

    For a capped logit s = c tanh(z/c), d(loss)/dz = (softmax(s) - onehot) (1 - (s/c)²).
    Written out it holds three arrays of logits at once; derived by MLX it holds five.
    """
    cap = model.config.text_config.final_logit_softcapping
    scores, wanted = logits(model, rows), targets[:, None]
    norm = mx.logsumexp(scores, axis=-1, keepdims=True)
    chosen = mx.take_along_axis(scores, wanted, axis=-1)
    slope = mx.exp(scores - norm)
    slope = mx.put_along_axis(slope, wanted, mx.expm1(chosen - norm), axis=-1)
    if cap:
        slope = slope * (1 - mx.square(scores / cap))

    def head(rows: mx.array) -> mx.array:
        return model.head(rows).astype(mx.float32)

    # The head is linear: MLX does not compute its output again for this.
    _, (gradient,) = mx.vjp(head, [rows], [slope])
    return (norm - chosen).sum(), gradient


def _pieces(model: Gemma4, count: int, piece: int) -> Iterator[tuple[int, int]]:
    rows = max(1, piece // model.config.text_config.vocab_size)
    for start in range(0, count, rows):
        yield start, min(start + rows, count)


def score(model: Gemma4, h: mx.array, targets: mx.array) -> tuple[float, list[bool]]:
    """Summed loss in nats, and for each of N tokens whether it is the likeliest."""
    loss, right = 0.0, []
    for start, end in _pieces(model, h.shape[0], PIECE):
        scores, wanted = logits(model, h[start:end]), targets[start:end]
        chosen = mx.take_along_axis(scores, wanted[:, None], axis=-1)[:, 0]
        loss += cast(float, (mx.logsumexp(scores, axis=-1) - chosen).sum().item())
        right += cast(list[bool], (scores.argmax(axis=-1) == wanted).tolist())
    return loss, right
