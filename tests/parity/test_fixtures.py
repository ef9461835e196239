"""Whole models against the reference's logits, read in every way a prompt can be."""

from collections.abc import Iterator

import golden
import mlx.core as mx
import numpy as np
import pytest
import tiny

from mlx_gemma4.model import Gemma4

LOGITS = golden.arrays("logits")
MEDIA = golden.arrays("media")
CHUNKS = {
    "halves": (17, 16),
    "blocks of the window": (8, 8, 8, 8, 1),
    "ragged": (3, 7, 11, 1, 1, 9, 1),
    "token by token": (1,) * 33,
    "prompt, then decode": (28, 1, 1, 1, 1, 1),
}


def prompt(length: int) -> list[int]:
    return tiny.random_tokens(length, golden.SEED + length)


def pieces(sizes: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    start = 0
    for size in sizes:
        yield start, start + size
        start += size


def read_in_chunks(
    model: Gemma4, tokens: list[int], sizes: tuple[int, ...]
) -> np.ndarray:
    cache = model.make_cache()
    parts = [tiny.logits(model, tokens[a:b], cache) for a, b in pieces(sizes)]
    return np.concatenate(parts)


@pytest.mark.parametrize("case", sorted(LOGITS))
def test_one_pass(case: str) -> None:
    variant, length = case.rsplit(".", 1)
    model = tiny.build(variant, golden.SEED)
    golden.check_logits(tiny.logits(model, prompt(int(length))), LOGITS[case])


@pytest.mark.slow
@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_chunks(variant: str, chunks: str) -> None:
    model = tiny.build(variant, golden.SEED)
    ours = read_in_chunks(model, prompt(33), CHUNKS[chunks])
    golden.check_logits(ours, LOGITS[f"{variant}.33"])


@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_the_weights_matter(variant: str) -> None:
    """The bar is tight: another seed's weights are far from the fixture."""
    ours = tiny.logits(tiny.build(variant, golden.SEED + 1), prompt(33))
    assert np.abs(ours - LOGITS[f"{variant}.33"]).max() > 1


@pytest.mark.parametrize("variant", ["E2B", "26B-A4B", "31B"])
def test_pictures(variant: str) -> None:
    """E2B reads soft tokens causally, the others both ways inside a picture."""
    model = tiny.build(variant, golden.SEED)
    embeddings = mx.array(MEDIA[f"{variant}.embeddings"][None])
    ours = model(mx.array(MEDIA["tokens"][None]), input_embeddings=embeddings)
    golden.check_logits(np.array(ours[0]), MEDIA[f"{variant}.logits"])


@pytest.mark.parametrize("sizes", [(2, 35), (3, 15, 19), (16, 9, 1, 1, 10)])
def test_pictures_behind_a_cache(sizes: tuple[int, ...]) -> None:
    """Chunks that keep each picture whole give the same logits."""
    model = tiny.build("26B-A4B", golden.SEED)
    cache = model.make_cache()
    tokens, given = MEDIA["tokens"][None], MEDIA["26B-A4B.embeddings"][None]
    parts = []
    for a, b in pieces(sizes):
        soft = mx.array(given[:, a:b])
        out = model(mx.array(tokens[:, a:b]), cache, input_embeddings=soft)
        parts.append(np.array(out[0]))
    golden.check_logits(np.concatenate(parts), MEDIA["26B-A4B.logits"])


@pytest.mark.parametrize("end", [10, 16, 23, 37])
def test_last_of_pictures(end: int) -> None:
    """The last position alone, also where the prompt ends inside a picture."""
    model = tiny.build("31B", golden.SEED)
    tokens = mx.array(MEDIA["tokens"][None, :end])
    soft = mx.array(MEDIA["31B.embeddings"][None, :end])
    whole = model(tokens, input_embeddings=soft)
    last = model(tokens, model.make_cache(), input_embeddings=soft, last_only=True)
    np.testing.assert_allclose(last[0, 0], whole[0, -1], atol=1e-4)
