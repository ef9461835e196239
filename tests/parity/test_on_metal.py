"""On an Apple GPU: the same answers as on the CPU, in float32 and in bfloat16."""

import golden
import mlx.core as mx
import pytest
import tiny
from mlx.utils import tree_map

from mlx_gemma4.layers import geglu, soft_cap
from mlx_gemma4.model import Gemma4

pytestmark = pytest.mark.metal

TOKENS = [tiny.random_tokens(33, 3)]  # four windows and one


def both(model: Gemma4) -> tuple[mx.array, mx.array]:
    """Logits of TOKENS on the GPU and on the CPU."""
    on_gpu = model(mx.array(TOKENS))
    mx.eval(on_gpu)
    with mx.stream(mx.cpu):
        on_cpu = model(mx.array(TOKENS))
        mx.eval(on_cpu)
    return on_gpu, on_cpu


@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_float32_logits_equal_the_cpus(variant: str) -> None:
    on_gpu, on_cpu = both(tiny.build(variant, seed=0))
    apart = mx.abs(on_gpu - on_cpu).max().item()
    assert apart < golden.BAR_ON_GPU  # type: ignore[operator]
    assert mx.array_equal(on_gpu.argmax(axis=-1), on_cpu.argmax(axis=-1))


@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_bfloat16_stays_close_to_float32(variant: str) -> None:
    model = tiny.build(variant, seed=0)
    exact = model(mx.array(TOKENS))
    mx.eval(exact)
    model.update(tree_map(lambda x: x.astype(mx.bfloat16), model.parameters()))
    rough = model(mx.array(TOKENS)).astype(mx.float32)
    error = mx.abs(rough - exact).mean() / mx.abs(exact).mean()
    assert error.item() < 0.1  # type: ignore[operator]


@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_bfloat16_decoding_equals_one_pass(variant: str) -> None:
    model = tiny.build(variant, seed=0)
    model.update(tree_map(lambda x: x.astype(mx.bfloat16), model.parameters()))
    whole = model(mx.array(TOKENS)).astype(mx.float32)
    cache = model.make_cache()
    steps = [model(mx.array([[t]]), cache=cache) for t in TOKENS[0]]
    decoded = mx.concatenate(steps, axis=1).astype(mx.float32)
    error = mx.abs(decoded - whole).mean() / mx.abs(whole).mean()
    assert error.item() < 0.1  # type: ignore[operator]


def test_compiled_pieces_equal_the_plain_ones() -> None:
    gate, up = mx.random.normal((2, 7, 33))
    by_hand = 0.5 * gate * (1 + mx.tanh(0.7978845608 * (gate + 0.044715 * gate**3)))
    assert mx.allclose(geglu(gate, up), by_hand * up, atol=1e-5)
    assert mx.allclose(soft_cap(30 * gate, 30.0), 30 * mx.tanh(gate), atol=1e-4)
