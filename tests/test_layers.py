"""The shared pieces against their formulas, written out in numpy."""

import math

import mlx.core as mx
import numpy as np
import pytest
import tiny

from mlx_gemma4.layers import RMSNorm, geglu, rms_normalize, soft_cap


def normalized(x: np.ndarray, eps: float) -> np.ndarray:
    x = x.astype(np.float64)
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)


@pytest.mark.parametrize("eps", [1e-6, 0.5])
def test_rms_norm_multiplies_by_the_weight(eps: float) -> None:
    norm = RMSNorm(24, eps)
    x, weight = (tiny.random_tensor(n, s, 1) for n, s in (("x", (3, 24)), ("w", (24,))))
    norm.weight = mx.array(weight)
    expected = normalized(x, eps) * weight  # not (1 + weight)
    np.testing.assert_allclose(norm(mx.array(x)), expected, atol=1e-5)


def test_rms_normalize_has_no_weight() -> None:
    x = tiny.random_tensor("x", (2, 3, 16), 1)
    out = rms_normalize(mx.array(x), 1e-6)
    np.testing.assert_allclose(out, normalized(x, 1e-6), atol=1e-5)


def test_rms_norm_of_zeros_is_zero() -> None:
    assert mx.all(rms_normalize(mx.zeros((1, 8)), 1e-6) == 0).item()


def test_geglu_uses_the_tanh_form() -> None:
    gate = np.linspace(-6, 6, 41, dtype=np.float32)
    up = np.linspace(2, -1, 41, dtype=np.float32)
    g = gate.astype(np.float64)
    inner = math.sqrt(2 / math.pi) * (g + 0.044715 * g**3)
    expected = 0.5 * g * (1 + np.tanh(inner)) * up
    np.testing.assert_allclose(geglu(mx.array(gate), mx.array(up)), expected, atol=2e-6)


def test_soft_cap_is_smooth_and_bounded() -> None:
    x = np.array([-1e4, -30, -1, 0, 0.5, 30, 1e4], np.float32)
    out = np.array(soft_cap(mx.array(x), 30.0))
    np.testing.assert_allclose(out, 30 * np.tanh(x / 30), rtol=1e-6)
    assert out.max() <= 30 and out[3] == 0


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_half_precision_stays_half(dtype: mx.Dtype) -> None:
    x = mx.array([[1.0, -2.0, 3.0, 4.0]], dtype)
    norm = RMSNorm(4, 1e-6)
    norm.weight = norm.weight.astype(dtype)
    assert norm(x).dtype == dtype
    assert geglu(x, x).dtype == dtype
    assert soft_cap(x, 30.0).dtype == dtype


def test_geglu_in_float16_where_the_product_would_overflow() -> None:
    gate, up = mx.array([-300.0, 300.0], mx.float16), mx.array([300.0, 2.0], mx.float16)
    assert geglu(gate, up).tolist() == [0.0, 600.0]
