"""Trained grids come through bit by bit, and what lies on none is counted."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_gemma4.checkpoint.packing import Packing
from mlx_gemma4.convert import fit, qat


def steps(count: int, seed: int = 0) -> np.ndarray:
    """[count, 1] bfloat16 numbers of both signs and many sizes."""
    random = np.random.default_rng(seed)
    sizes = random.standard_normal((count, 1)) * 10.0 ** random.integers(-4, 1)
    return fit.round_to(sizes.astype(np.float32), mx.bfloat16)


def codes(count: int, lowest: int = -8, highest: int = 7, seed: int = 0) -> np.ndarray:
    """[count, 32] whole numbers; `lowest` is in every group."""
    found = np.random.default_rng(seed).integers(lowest, highest + 1, (count, 32))
    found[:, seed % 32] = lowest
    return found


def as_rows(weights: np.ndarray, dtype: mx.Dtype = mx.bfloat16) -> mx.array:
    return mx.array(weights.astype(np.float32)).astype(dtype)


def dequantised(packed: fit.Codes, dtype: mx.Dtype = mx.bfloat16) -> mx.array:
    scales, biases = (a.astype(mx.float32) for a in packed[1:])
    return mx.dequantize(packed.weight, scales, biases, 32, 4).astype(dtype)


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16, mx.float32])
@pytest.mark.parametrize(("lowest", "highest"), [(-8, 7), (-7, 7), (-5, 5), (-1, 1)])
def test_a_trained_grid_is_kept_bit_by_bit(
    lowest: int, highest: int, dtype: mx.Dtype
) -> None:
    step = np.array(as_rows(steps(512), dtype).astype(mx.float32))
    weights = as_rows(step * codes(512, lowest, highest), dtype).reshape(64, 256)
    packed, share = qat.quantize_q4_0(weights)
    assert share == qat.Share(groups=512, exact=512, near=0)
    assert packed.weight.shape == (64, 32) and packed.scales.shape == (64, 8)
    assert packed.scales.dtype == packed.biases.dtype == dtype
    assert mx.array_equal(dequantised(packed, dtype), weights)


def test_the_grid_that_mlx_would_choose_is_another() -> None:
    weights = as_rows(steps(512) * codes(512)).reshape(64, 256)
    packed = fit.Codes(*mx.quantize(weights, 32, 4))
    assert not mx.array_equal(dequantised(packed), weights)


def test_a_positive_extreme_has_a_negative_step() -> None:
    weights = as_rows(np.array([[0.5, -0.4375] + [0.0625] * 30]))
    packed, share = qat.quantize_q4_0(weights)
    assert share.exact == 1
    assert packed.scales.item() == -0.0625 and packed.biases.item() == 0.5
    assert mx.array_equal(dequantised(packed), weights)


def test_equal_extremes_of_both_signs_cannot_both_be_eight_steps() -> None:
    sevenths = np.resize(np.arange(-7, 8), 32) * 0.25
    weights = as_rows(sevenths[None])
    packed, share = qat.quantize_q4_0(weights)
    assert share.exact == 1 and abs(packed.scales.item()) == 0.25
    assert mx.array_equal(dequantised(packed), weights)


def test_groups_of_zeros_and_of_one_value() -> None:
    weights = as_rows(np.repeat([[0.0], [-0.0], [0.3], [-3e-5]], 32, axis=-1))
    packed, share = qat.quantize_q4_0(weights)
    assert share.exact == 4
    assert mx.array_equal(dequantised(packed), weights)
    assert mx.isfinite(packed.scales).all()


def test_subnormal_weights() -> None:
    smallest = float(np.float32(2**-133))  # of bfloat16
    exact = smallest * codes(4)
    packed, share = qat.quantize_q4_0(as_rows(exact))
    assert share.exact == 4
    scales, biases = (fit.values(a, (-1, 1)) for a in packed[1:])
    words = np.array(packed.weight)[..., None] >> np.arange(0, 32, 4) & 15
    assert (words.reshape(4, 32) * scales + biases == exact.astype(np.float32)).all()


def test_one_weight_beside_zeros() -> None:
    weights = np.zeros((2, 32))
    weights[0, 9], weights[1, 31] = 0.7, -1e-3
    packed, share = qat.quantize_q4_0(as_rows(weights))
    assert share.exact == 2
    assert mx.array_equal(dequantised(packed), as_rows(weights))


def test_groups_off_the_grid_are_counted_and_fitted() -> None:
    on = as_rows(steps(30) * codes(30))
    off = as_rows(np.random.default_rng(1).standard_normal((10, 32)))
    weights = mx.concatenate([on[:13], off, on[13:]])
    packed, share = qat.quantize_q4_0(weights)
    assert share == qat.grid_share(weights) == qat.Share(groups=40, exact=30, near=0)
    assert share.on_grid == 0.75
    back = dequantised(packed)
    assert mx.array_equal(mx.concatenate([back[:13], back[23:]]), on)
    best = fit.quantize(off, 4, 32)
    for ours, fitted in zip(packed, best, strict=True):
        assert mx.array_equal(ours[13:23], fitted)


def test_a_step_that_needs_more_digits_than_the_weights_is_near() -> None:
    random = np.random.default_rng(0)
    fine = random.uniform(0.01, 0.02, (400, 1)).astype(np.float32)
    exact = fine * codes(400, -7, 7)
    weights = as_rows(exact)
    packed, share = qat.quantize_q4_0(weights)
    assert share.exact + share.near == 400 and share.near > 200
    back = np.array(dequantised(packed, mx.float32))
    assert (np.abs(back - exact) <= 2**-7 * np.abs(exact)).all()


def test_one_weight_off_by_two_units_takes_a_group_off_the_grid() -> None:
    code = codes(200)
    bits = np.array(as_rows(steps(200) * code).view(mx.uint16))
    bits[np.arange(200), (np.abs(code) == 3).argmax(-1)] += 2
    weights = mx.array(bits[(np.abs(code) == 3).any(-1)]).view(mx.bfloat16)
    share = qat.grid_share(weights)
    assert share.groups > 150 and (share.exact, share.near) == (0, 0)


def test_a_group_with_one_weight_astray_is_not_on_the_grid() -> None:
    weights = np.array(as_rows(steps(64) * codes(64)).astype(mx.float32))
    astray = np.argmin(np.abs(weights), axis=-1)
    weights[np.arange(64), astray] += np.abs(weights).max(-1) / 40
    assert qat.grid_share(as_rows(weights)).exact == 0


@pytest.mark.parametrize("count", [1, 3, 16])
def test_rows_do_not_depend_on_each_other(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = np.where(np.arange(16)[:, None] % 3, steps(16) * codes(16), steps(16, 1))
    mixed[5] += np.linspace(0, 1, 32)
    weights = as_rows(mixed)
    whole, share = qat.quantize_q4_0(weights)
    monkeypatch.setattr(fit, "WIDTH", 3)
    blocks = [qat.quantize_q4_0(weights[i : i + count]) for i in range(0, 16, count)]
    assert sum((found for _, found in blocks), qat.Share()) == share
    for index, ours in enumerate(whole):
        joined = mx.concatenate([packed[index] for packed, _ in blocks])
        assert mx.array_equal(ours, joined)


def test_scales_may_be_coarser_than_the_weights() -> None:
    weights = as_rows(steps(64) * codes(64), mx.float32)
    packed, share = qat.quantize_q4_0(weights, mx.bfloat16)
    assert share.exact == 64 and packed.scales.dtype == mx.bfloat16
    assert mx.array_equal(dequantised(packed, mx.float32), weights)


def test_encode_counts_exact_groups_only() -> None:
    astray = np.linspace(0.1, 0.3, 32)[None]
    weights = as_rows(np.concatenate([steps(3) * codes(3), astray]))
    found = qat.encode(
        {"weight": weights}, Packing(4, 32, "affine"), qat.Q4_0, mx.bfloat16
    )
    assert found.codes.scales.size == 4
    assert (found.exact, found.groups) == (3, 4)


def test_nothing_is_on_the_grid_of_nothing() -> None:
    assert qat.Share().on_grid == 0
