"""AdamW and its schedules against figures by hand, and the order of examples."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_gemma4.tune.batches import draw
from mlx_gemma4.tune.optimizer import first_state, norm, rate_at, skipped, updated


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_two_steps_by_hand(decay: float):
    """m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps), and decay of matrices alone."""
    state = first_state({"w": mx.array([[1.0, -2.0]]), "b": mx.array([3.0])})
    w, m, v = np.array([[1.0, -2.0]]), 0.0, 0.0
    for t, g in ((1, np.array([[0.5, 0.1]])), (2, np.array([[-1.0, 0.2]]))):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        w = w - 0.01 * (step + decay * w)
        gradients = {"w": mx.array(g.astype(np.float32)), "b": mx.array([0.0])}
        state = updated(state, gradients, 0.01, decay)
    np.testing.assert_allclose(np.array(state.parameters["w"]), w, rtol=1e-6)
    assert state.parameters["b"].tolist() == [3.0]
    assert (state.step, state.updates) == (2, 2)
    after = skipped(state)
    assert (after.step, after.updates) == (3, 2) and after.first is state.first


def test_rates():
    rates = [rate_at(step, 12, 1.0, "cosine", 2) for step in range(13)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)
    assert rates[7] == pytest.approx(0.55) and rates[12] == pytest.approx(0.1)
    assert rate_at(7, 12, 1.0, "linear", 2) == pytest.approx(0.55)
    assert rate_at(11, 12, 1.0, "constant", 2) == 1.0


def test_norm():
    assert norm({"a": mx.array([3.0]), "b": mx.array([[4.0]])}) == pytest.approx(5.0)


def test_every_example_comes_once_in_a_pass():
    order = draw(1, 7, 0, 21)
    assert [sorted(order[i : i + 7]) for i in (0, 7, 14)] == [list(range(7))] * 3
    assert order[:7] != order[7:14] and order != draw(2, 7, 0, 21)
    assert draw(1, 7, 5, 9) == order[5:14]
