"""Fitted grids: MLX's packing, less error, the same result for every block size."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_gemma4.convert import fit


def rows(count: int, inputs: int, seed: int = 0) -> mx.array:
    random = np.random.default_rng(seed)
    return mx.array(random.standard_normal((count, inputs)), mx.bfloat16)


def plain(codes: fit.Codes, bits: int, group_size: int) -> np.ndarray:
    """float32 weights, computed in float32."""
    scales, biases = (a.astype(mx.float32) for a in codes[1:])
    return np.array(mx.dequantize(codes.weight, scales, biases, group_size, bits))


def error(codes: fit.Codes, weight: mx.array, bits: int, group_size: int) -> float:
    wanted = np.array(weight.astype(mx.float32))
    return float(np.linalg.norm(plain(codes, bits, group_size) - wanted))


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 8])
def test_codes_are_packed_as_mlx_packs_them(bits: int) -> None:
    random = np.random.default_rng(bits)
    wanted = random.integers(0, 2**bits, (6, 64)).astype(np.uint8)
    ones, zeros = np.ones(6, np.float32), np.zeros(6, np.float32)
    packed = fit.pack(wanted, ones, zeros, bits, (3, 2), mx.float32)
    assert (plain(packed, bits, 64) == wanted.reshape(3, 128)).all()


@pytest.mark.parametrize("group_size", [32, 64, 128])
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_a_fitted_grid_is_closer_than_one_between_the_extremes(
    bits: int, group_size: int
) -> None:
    weight = rows(64, 256)
    fitted = fit.quantize(weight, bits, group_size)
    spanned = fit.Codes(*mx.quantize(weight, group_size, bits))
    assert [(a.shape, a.dtype) for a in fitted] == [(a.shape, a.dtype) for a in spanned]
    ours, theirs = (error(c, weight, bits, group_size) for c in (fitted, spanned))
    assert ours < (0.96 if bits == 4 else 0.92) * theirs


def test_stacked_experts_keep_their_shape() -> None:
    weight = rows(24, 128).reshape(4, 6, 128)
    stacked, flat = fit.quantize(weight, 4, 64), fit.quantize(weight[2], 4, 64)
    assert stacked.weight.shape == (4, 6, 16) and stacked.scales.shape == (4, 6, 2)
    for ours, alone in zip(stacked, flat, strict=True):
        assert mx.array_equal(ours[2], alone)


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_rows_do_not_depend_on_each_other(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = rows(40, 384)
    whole = fit.quantize(weight, 4, 128)
    monkeypatch.setattr(fit, "WIDTH", 5)
    blocks = [fit.quantize(weight[i : i + count], 4, 128) for i in range(0, 40, count)]
    for index, ours in enumerate(whole):
        joined = mx.concatenate([block[index] for block in blocks])
        assert mx.array_equal(ours, joined)


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_equal_zero_tiny_and_huge_weights(dtype: mx.Dtype) -> None:
    info = mx.finfo(dtype)
    subnormal = float(info.smallest_normal) / 4
    groups = [0.0, 0.5, -0.25, float(info.max) / 2, subnormal]
    weight = mx.repeat(mx.array(groups), 64).reshape(-1, 64).astype(dtype)
    codes = fit.quantize(weight, 4, 64)
    assert (plain(codes, 4, 64) == np.array(weight.astype(mx.float32))).all()


def test_groups_of_huge_weights_are_spanned() -> None:
    weight = rows(4, 64) * 1e37
    codes = fit.quantize(weight, 4, 64)
    wanted = np.array(weight.astype(mx.float32))
    off = np.abs(plain(codes, 4, 64) - wanted).max(-1)
    assert (off <= 0.52 * (wanted.max(-1) - wanted.min(-1)) / 15).all()


def test_scales_may_be_coarser_than_the_weights() -> None:
    weight = rows(8, 64).astype(mx.float32) * 1.0001
    codes = fit.quantize(weight, 4, 64, mx.bfloat16)
    assert codes.scales.dtype == codes.biases.dtype == mx.bfloat16
    assert error(codes, weight, 4, 64) < 0.11 * np.sqrt(8 * 64)


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_rounding_is_to_nearest_even(dtype: mx.Dtype) -> None:
    random = np.random.default_rng(0)
    numbers = random.standard_normal(5000).astype(np.float32) * 1e-3
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 1 + 3 * 2**-11, -0.0])
    numbers = np.concatenate([numbers, ties.astype(np.float32)])
    wanted = np.array(mx.array(numbers).astype(dtype).astype(mx.float32))
    assert (fit.round_to(numbers, dtype) == wanted).all()


@pytest.mark.parametrize("lowest", [-8, -3, 0, 40])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_weights_on_a_grid_already_stay_on_it(bits: int, lowest: int) -> None:
    """Such as a model has that was quantised and unpacked before."""
    codes = np.random.default_rng(bits).integers(0, 2**bits, (50, 64))
    codes[:, :2] = 0, 2**bits - 1
    weight = mx.array((codes + lowest) / 64, mx.float32)
    again = fit.quantize(weight, bits, 64)
    assert np.abs(plain(again, bits, 64) - np.array(weight)).max() < 1e-5
