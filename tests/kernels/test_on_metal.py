"""On an Apple GPU: every kernel against the plain path, with models of every shape.

tests/metal runs the same text on any machine, but only a GPU compiles it with Apple's
compiler, and has real memory and real threads.
"""

import golden
import mlx.core as mx
import pytest
import tiny
from counting import Launches
from mlx.utils import tree_map

from mlx_gemma4.kernels import NAMES, using
from mlx_gemma4.model import Gemma4

pytestmark = pytest.mark.metal

SHAPES = ("E2B", "E4B", "26B-A4B", "31B")
# A prompt, beyond the rows that kernels for decoding take; a token; a draft of three;
# and a prompt behind all of that.
STEPS = (35, 1, 3, 21)
EACH = [*((name,) for name in NAMES), NAMES]


def logits(model: Gemma4) -> mx.array:
    """Of all steps one after the other, through a cache: float32."""
    tokens = mx.array([tiny.random_tokens(sum(STEPS), 5)])
    cache, parts, start = model.make_cache(), [], 0
    for size in STEPS:
        parts.append(model(tokens[:, start : start + size], cache=cache))
        start += size
    found = mx.concatenate(parts, axis=1).astype(mx.float32)
    mx.eval(found)
    return found


def with_and_without(
    names: tuple[str, ...], model: Gemma4
) -> tuple[mx.array, mx.array, int]:
    """Logits with the kernels `names` and with none, and how many were launched."""
    launches = Launches()
    with using():
        plain = logits(model)
    with using(*names, make=launches.make):
        return logits(model), plain, launches.count


@pytest.mark.parametrize("names", EACH, ids="+".join)
def test_float32_equals_the_plain_path(names: tuple[str, ...]) -> None:
    launched = 0
    for variant in SHAPES:
        ours, plain, count = with_and_without(names, tiny.build_packed(variant, 7))
        apart = mx.abs(ours - plain).max().item()
        assert apart < golden.BAR_ON_GPU, variant  # type: ignore[operator]
        launched += count
    assert launched, "no shape uses it"


@pytest.mark.parametrize("names", EACH, ids="+".join)
def test_bfloat16_is_as_close_to_float32_as_the_plain_path(
    names: tuple[str, ...],
) -> None:
    launched = 0
    for variant in SHAPES:
        model = tiny.build_packed(variant, 7)
        with using():
            exact = logits(model)
        model.update(tree_map(_halved, model.parameters()))
        ours, plain, count = with_and_without(names, model)
        errors = [mx.abs(each - exact).mean().item() for each in (ours, plain)]
        size = mx.abs(exact).mean().item()
        assert errors[0] < 2 * errors[1] + 0.01 * size, variant  # type: ignore[operator]
        launched += count
    assert launched, "no shape uses it"


def _halved(x: mx.array) -> mx.array:
    return x.astype(mx.bfloat16) if mx.issubdtype(x.dtype, mx.floating) else x
