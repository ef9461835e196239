"""Rotary embeddings against the reference, and what must hold of any rotation."""

from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest
import tiny
from places import FIXTURES

from mlx_gemma4.config import FULL, SLIDING, Config, RopeParameters
from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.rope import Rotation, rope_periods, rotation_at

FIXTURE = np.load(FIXTURES / "rope.npz")
SEED = 20  # the fixtures'
PARAMETERS = Config.from_dict(tiny.config_dict("31B")).text_config.rope_parameters
PROPORTIONAL = PARAMETERS[FULL]


def rope_of(head_dim: int, parameters: RopeParameters) -> Callable[..., mx.array]:
    """Rotates heads whose first position is given."""
    periods = rope_periods(head_dim, parameters)
    return lambda x, offset: Rotation(periods, mx.array([offset], mx.int32))(x)


@pytest.mark.parametrize("case", sorted(FIXTURE))
def test_equals_the_reference(case: str) -> None:
    kind, size, offset = case.rsplit(".", 2)
    x = tiny.random_tensor("rope", (1, 2, 6, int(size)), SEED)
    rotated = rope_of(int(size), PARAMETERS[kind])(mx.array(x), int(offset))
    # Angles near 1000 radians carry a float32 rounding of 6e-5 each.
    np.testing.assert_allclose(rotated, FIXTURE[case], atol=2e-6 + 3e-7 * int(offset))


def test_default_periods() -> None:
    periods = rope_periods(4, RopeParameters("default", 10_000.0))
    np.testing.assert_allclose(periods, [1.0, 100.0], rtol=1e-6)


def test_proportional_turns_the_first_quarter_of_the_pairs() -> None:
    """64 of 256 pairs rotate, with exponents over the whole head of 512."""
    periods = np.array(rope_periods(512, PROPORTIONAL))
    assert periods.shape == (256,)
    expected = 1e6 ** (np.arange(64) / 256)
    np.testing.assert_allclose(periods[:64], expected, rtol=1e-5)
    assert np.isinf(periods[64:]).all()


def test_proportional_leaves_the_other_pairs_alone() -> None:
    x = mx.array(tiny.random_tensor("x", (1, 1, 5, 32), 0))
    rotated = rope_of(32, PROPORTIONAL)(x, 7)
    moved = np.array(mx.abs(rotated - x).max(axis=(0, 1, 2)) > 1e-6)
    assert np.flatnonzero(moved).tolist() == [0, 1, 2, 3, 16, 17, 18, 19]


@pytest.mark.parametrize("kind", [SLIDING, FULL])
def test_scores_depend_on_distance_alone(kind: str) -> None:
    rope = rope_of(16, PARAMETERS[kind])
    q, k = (mx.array(tiny.random_tensor(n, (1, 1, 1, 16), 0)) for n in "qk")
    scores = [(rope(q, 5 + p) * rope(k, 2 + p)).sum().item() for p in (0, 1, 40)]
    np.testing.assert_allclose(scores, scores[0], rtol=1e-4)
    assert abs((rope(q, 9) * rope(k, 2)).sum().item() - scores[0]) > 1e-3


def test_offset_continues_the_sequence() -> None:
    rope = rope_of(16, PARAMETERS[SLIDING])
    x = mx.array(tiny.random_tensor("x", (1, 2, 9, 16), 0))
    parts = mx.concatenate([rope(x[:, :, :4], 0), rope(x[:, :, 4:], 4)], axis=2)
    np.testing.assert_allclose(parts, rope(x, 0), atol=1e-6)


@pytest.mark.parametrize("kind", [SLIDING, FULL])
@pytest.mark.parametrize("offset", [0, 5, 3000])
def test_one_rotation_for_many_layers(kind: str, offset: int) -> None:
    periods = rope_periods(32, PARAMETERS[kind])
    x = mx.array(tiny.random_tensor("x", (2, 3, 7, 32), 0))
    position = mx.array([offset], mx.int32)
    shared = rotation_at(periods, position, 7, x.dtype)(x)
    alone = Rotation(periods, position)(x)
    np.testing.assert_allclose(shared, alone, atol=2e-6 + 3e-7 * offset)


def test_unknown_type_is_named() -> None:
    with pytest.raises(CheckpointError, match="yarn"):
        rope_periods(16, RopeParameters("yarn", 1e4))
