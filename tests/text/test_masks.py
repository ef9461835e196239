"""Masks as drawings, and banded attention against the masked call."""

from itertools import product

import mlx.core as mx
import numpy as np
import pytest

from mlx_gemma4.cache import Seen
from mlx_gemma4.kernels import using
from mlx_gemma4.text import masks, scores
from mlx_gemma4.text.masks import (
    Band,
    band,
    picture_mask,
    vision_blocks,
    vision_window_mask,
    window_mask,
)


def drawn(mask: masks.Mask) -> list[str]:
    """`#` where a query (row) sees a key (column)."""
    assert isinstance(mask, mx.array)
    rows = np.array(mask).reshape(mask.shape[-2:])
    return ["".join(".#"[int(x)] for x in row) for row in rows]


def window_of(mask: masks.Mask) -> int | None:
    assert isinstance(mask, Band)
    return mask.window


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
    assert window_of(window_mask(block + 1, block + 1, 8)) == 8
    assert isinstance(window_mask(block, block, 8), mx.array)
    assert window_mask(block + 1, 2 * block, 4 * block) == "causal"


def test_blocks_behind_a_window_share_their_mask() -> None:
    block = masks.BLOCK
    assert band(4 * block, 4 * block + 7, 8).masks[0].shape == (1, 1, block, block + 7)
    assert band(4 * block, 4 * block + 6, 8).masks[0].shape == (4, 1, block, block + 7)


def test_a_few_queries_get_a_band_where_a_kernel_takes_them() -> None:
    with using("attention"):
        assert window_of(window_mask(3, 5, 3)) == 3
        assert window_of(window_mask(1, 4, 3)) == 3
        assert window_mask(3, 3, 3) == "causal"
        assert window_mask(1, 3, 3) is None
        assert isinstance(window_mask(17, 20, 3), mx.array)


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


def test_a_window_that_cuts_what_comes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other answer to the open question; text is read as before."""
    monkeypatch.setattr(masks, "WINDOW_AHEAD", True)
    assert drawn(vision_window_mask(BLOCKS, 7, 2)) == [
        "#......",
        "###....",
        ".###...",
        "..##...",
        "...##..",
        "....###",
        ".....##",
    ]


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("earlier", [0, 3])
def test_a_picture_wider_than_the_window_in_blocks(
    earlier: int, ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the whole mask, however far queries see."""
    monkeypatch.setattr(masks, "WINDOW_AHEAD", ahead)
    monkeypatch.setattr(masks, "BLOCK", 4)
    blocks = mx.array([[-1, *[0] * 11, -1, -1]])
    L, S, window = 14, 14 + earlier, 4
    mask = picture_mask(blocks, S, window)
    queries, keys, values = heads(4, L, 1), heads(2, S, 2), heads(2, S, 3)
    whole = vision_window_mask(blocks, S, window)
    ours = attend(queries, keys, values, mask)
    np.testing.assert_allclose(ours, attend(queries, keys, values, whole), atol=1e-5)
    behind_first = drawn(whole)[1][earlier + 2 :]
    assert behind_first.count("#") == (window - 1 if ahead else 10)


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


def attend(
    queries: mx.array, keys: mx.array, values: mx.array, mask: masks.Mask
) -> mx.array:
    if isinstance(mask, Band) and not mask.gradients:
        _, H, L, D = queries.shape
        rows = queries.swapaxes(1, 2).reshape(-1, L, H * D)
        queries = mask.cut(rows, H, D).swapaxes(1, 2)
    return scores.attend(queries, Seen.all_of((keys, values)), mask)


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
        queries = heads(2 * grouped, L, 1)
        keys, values = heads(2, S, 2), heads(2, S, 3)
        mask = window_mask(L, S, window)
        assert window_of(mask) == window
        ours = attend(queries, keys, values, mask)
        whole = attend(queries, keys, values, plain(L, S, window))
        np.testing.assert_allclose(ours, whole, atol=1e-5)


@pytest.mark.parametrize("earlier", [0, 3])
def test_causal_in_blocks(earlier: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a full layer does without a GPU."""
    monkeypatch.setattr(scores, "BLOCK", 4)
    arrays = heads(4, 11, 1), heads(2, 11 + earlier, 2), heads(2, 11 + earlier, 3)
    whole = attend(*arrays, plain(11, 11 + earlier, 100))
    np.testing.assert_allclose(attend(*arrays, "causal"), whole, atol=1e-5)


def random_blocks(draw: np.random.RandomState, L: int, longest: int) -> mx.array:
    """Two rows of pictures and texts, of different lengths and in different places."""
    rows = []
    for _ in range(2):
        flags: list[bool] = []
        while len(flags) < L:
            flags += [False] * int(draw.randint(0, 6))
            flags += [True] * int(draw.randint(1, longest + 1))
        rows.append(flags[:L])
    return vision_blocks(mx.array(rows))


@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("called_by_block", [False, True])
def test_gradients_go_through_the_band(
    pictures: bool, called_by_block: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, "BLOCK", 4)
    arrays = heads(4, 11, 1), heads(2, 13, 2), heads(2, 13, 3)
    weights = heads(4, 11, 4).reshape(2, 11, -1)
    ours: masks.Mask = band(11, 13, 5, called_by_block)
    whole = plain(11, 13, 5)
    if pictures:
        blocks = random_blocks(np.random.RandomState(0), 11, 9)
        ours = picture_mask(blocks, 13, 5, called_by_block)
        whole = vision_window_mask(blocks, 13, 5)

    def gradients(mask: masks.Mask) -> tuple[mx.array, ...]:
        def loss(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
            return (attend(queries, keys, values, mask) * weights).sum()

        return mx.grad(loss, argnums=(0, 1, 2))(*arrays)

    for each, other in zip(gradients(ours), gradients(whole), strict=True):
        assert float(mx.abs(other).max()) > 0.1
        np.testing.assert_allclose(each, other, atol=1e-5)


def reached(mask: masks.Mask, length: int) -> list[str]:
    """As `drawn`, block by block, with blanks for scores that are never computed."""
    assert isinstance(mask, Band) and mask.window is None
    rows = []
    for i, block in enumerate(np.array(mask.masks[0])[:, 0]):
        start = i * masks.BLOCK - max(0, mask.left)
        for row in block:
            text = "".join(".#"[int(x)] for x in row)
            rows.append((" " * start + text[max(0, -start) :]).ljust(length)[:length])
    return rows


def test_blocks_reach_to_the_ends_of_their_pictures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of blocks of two, the second ends within a picture, two positions before it
    does: all blocks get two keys more."""
    monkeypatch.setattr(masks, "BLOCK", 2)
    blocks = mx.array([[-1, -1, -1, 0, 0, 0, -1, -1, -1, -1]])
    assert reached(picture_mask(blocks, 11, 2), 11) == [
        "##...      ",
        ".##..      ",
        "  ##...    ",
        "  .####    ",
        "    ###..  ",
        "    .##..  ",
        "      ##...",
        "      .##..",
        "        ##.",
        "        .##",
    ]


@pytest.mark.slow
def test_pictures_in_blocks_equal_the_whole_mask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pictures at the edges of blocks, longer than a block and longer than a window,
    with and without positions before them."""
    draw = np.random.RandomState(0)
    sizes = product((4, 5), (9, 13, 24), (0, 1, 6), (2, 4, 7), (3, 17))
    longer = 0
    for block, L, earlier, window, longest in sizes:
        monkeypatch.setattr(masks, "BLOCK", block)
        S = L + min(earlier, window - 1)
        blocks = random_blocks(draw, L, longest)
        mask = picture_mask(blocks, S, window)
        assert isinstance(mask, Band) and mask.window is None
        longer += mask.masks[0].shape[3] > window - 1 + block
        queries, keys, values = heads(4, L, 1), heads(2, S, 2), heads(2, S, 3)
        ours = attend(queries, keys, values, mask)
        whole = attend(queries, keys, values, vision_window_mask(blocks, S, window))
        np.testing.assert_allclose(ours, whole, atol=1e-5)
    assert longer > 50


def test_no_pictures_nothing_to_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "BLOCK", 4)
    nothing = mx.full((2, 9), -1)
    assert window_of(picture_mask(nothing, 11, 3)) == 3
    assert isinstance(picture_mask(nothing[:, :4], 4, 3), mx.array)
