"""Masks as drawings, and banded attention against the masked call."""

from itertools import product

import mlx.core as mx
import numpy as np
import pytest

from mlx_gemma4.text import masks
from mlx_gemma4.text.masks import (
    Band,
    attend,
    vision_blocks,
    vision_window_mask,
    window_mask,
)


def drawn(mask: masks.Mask) -> list[str]:
    """`#` where a query (row) sees a key (column)."""
    assert isinstance(mask, mx.array)
    rows = np.array(mask).reshape(mask.shape[-2:])
    return ["".join(".#"[int(x)] for x in row) for row in rows]


def test_window_of_three() -> None:
    assert drawn(window_mask(5, 5, 3)) == [
        "#....",
        "##...",
        "###..",
        ".###.",
        "..###",
    ]


def test_window_behind_a_cached_beginning() -> None:
    assert drawn(window_mask(3, 5, 3)) == [
        "###..",
        ".###.",
        "..###",
    ]


def test_a_single_query_with_too_many_keys() -> None:
    assert drawn(window_mask(1, 5, 3)) == ["..###"]


@pytest.mark.parametrize("keys", [1, 2, 3])
def test_a_single_query_sees_a_window_of_keys(keys: int) -> None:
    assert window_mask(1, keys, 3) is None


@pytest.mark.parametrize(("queries", "keys"), [(2, 2), (3, 3), (2, 3)])
def test_where_the_window_does_not_bite(queries: int, keys: int) -> None:
    assert window_mask(queries, keys, 3) == "causal"


def test_many_queries_get_a_band() -> None:
    block = masks.BLOCK
    assert window_mask(block + 1, block + 1, 8) == Band(8)
    assert isinstance(window_mask(block, block, 8), mx.array)
    assert window_mask(block + 1, 2 * block, 4 * block) == Band(4 * block)


BLOCKS = mx.array([[-1, 0, 0, 0, -1, 1, 1]])


def test_a_picture_sees_itself_both_ways() -> None:
    assert drawn(vision_window_mask(BLOCKS, 7, 10)) == [
        "#......",
        "####...",
        "####...",
        "####...",
        "#####..",
        "#######",
        "#######",
    ]


def test_a_window_cuts_a_picture_s_past_only() -> None:
    assert drawn(vision_window_mask(BLOCKS, 7, 2)) == [
        "#......",
        "####...",
        ".###...",
        "..##...",
        "...##..",
        "....###",
        ".....##",
    ]


def test_pictures_behind_a_cached_beginning() -> None:
    assert drawn(vision_window_mask(mx.array([[0, 0, -1]]), 5, 3)) == [
        "####.",
        ".###.",
        "..###",
    ]


def test_vision_masks_of_a_batch() -> None:
    mask = vision_window_mask(mx.array([[0, 0], [-1, -1]]), 2, 4)
    assert mask.shape == (2, 1, 2, 2)
    assert drawn(mask[:1]) == ["##", "##"]
    assert drawn(mask[1:]) == ["#.", "##"]


def test_runs_of_vision_positions_are_numbered() -> None:
    flags = mx.array([[0, 1, 1, 0, 1, 0], [1, 0, 0, 1, 1, 1]]) > 0
    assert vision_blocks(flags).tolist() == [
        [-1, 0, 0, -1, 1, -1],
        [0, -1, -1, 1, 1, 1],
    ]


def heads(count: int, length: int, seed: int) -> mx.array:
    draw = np.random.RandomState(seed)
    return mx.array(draw.randn(2, count, length, 8).astype(np.float32))


def plain(L: int, S: int, window: int) -> mx.array:
    """The mask by its definition."""
    distance = mx.arange(S - L, S)[:, None] - mx.arange(S)[None]
    return (distance >= 0) & (distance < window)


SIZES = [
    (block, L, earlier, window)
    for block, L, earlier, window in product((4, 5), (9, 13, 16), (0, 3, 6), (2, 4, 7))
    if L + earlier >= window + block
]


@pytest.mark.parametrize("grouped", [1, 2])
def test_banded_equals_masked(grouped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks larger and smaller than the window, uneven ends, cached beginnings."""
    assert any(window > block for block, _, _, window in SIZES)
    for block, L, earlier, window in SIZES:
        monkeypatch.setattr(masks, "BLOCK", block)
        S = L + earlier
        assert window_mask(L, S, window) == Band(window)
        queries = heads(2 * grouped, L, 1)
        keys, values = heads(2, S, 2), heads(2, S, 3)
        ours = attend(queries, keys, values, Band(window))
        whole = attend(queries, keys, values, plain(L, S, window))
        np.testing.assert_allclose(ours, whole, atol=1e-5)


def test_gradients_go_through_the_band(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "BLOCK", 4)
    arrays = heads(4, 11, 1), heads(2, 13, 2), heads(2, 13, 3)
    weights = heads(4, 11, 4)

    def gradients(mask: masks.Mask) -> tuple[mx.array, ...]:
        def loss(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
            return (attend(queries, keys, values, mask) * weights).sum()

        return mx.grad(loss, argnums=(0, 1, 2))(*arrays)

    pairs = zip(gradients(Band(5)), gradients(plain(11, 13, 5)), strict=True)
    for ours, whole in pairs:
        assert float(mx.abs(whole).max()) > 0.1
        np.testing.assert_allclose(ours, whole, atol=1e-5)
