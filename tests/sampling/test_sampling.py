"""From logits to a token, by small cases and against transformers' own filters."""

from shutil import which
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from choosing import reference_shares, shares

from mlx_gemma4.errors import ChatError
from mlx_gemma4.sampling import Sampler, Sampling, draw, drawing_with, likeliest
from mlx_gemma4.sampling.drawing import SORTED, Noise, filter_sorted

OFF: dict[str, Any] = {"top_p": 1.0, "top_k": 0}
SHARES = [0.4, 0.3, 0.2, 0.1]


def logits(shares: list[float]) -> mx.array:
    return mx.log(mx.array([shares]))


def kept(shares: list[float], **options: Any) -> list[bool]:
    """Which of the tokens, in falling order, the filters keep."""
    row = filter_sorted(logits(shares), Sampling(**{**OFF, **options}))[0]
    return (row > -mx.inf).tolist()  # type: ignore[return-value]


def drawn(shares: list[float], times: int = 300, **options: Any) -> set[int]:
    """The tokens that ever come up."""
    sampler = Sampler(Sampling(**{**OFF, "seed": 5, **options}), [], len(shares))
    return {int(sampler(logits(shares)).item()) for _ in range(times)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("top_p", "count"), [(0.39, 1), (0.41, 2), (0.69, 2), (0.71, 3), (0.95, 4), (1, 4)]
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p: float, count: int) -> None:
    assert kept(SHARES, top_p=top_p) == [i < count for i in range(4)]


def test_a_tiny_top_p_still_keeps_the_likeliest() -> None:
    assert kept([0.25] * 4, top_p=1e-6) == [True, False, False, False]


@pytest.mark.parametrize(("min_p", "count"), [(0, 4), (0.3, 3), (0.6, 2), (0.99, 1)])
def test_min_p_is_a_share_of_the_likeliest(min_p: float, count: int) -> None:
    assert kept(SHARES, min_p=min_p) == [i < count for i in range(4)]


@pytest.mark.parametrize(("top_k", "count"), [(0, 4), (1, 1), (3, 3), (4, 4), (99, 4)])
def test_top_k_keeps_the_likeliest(top_k: int, count: int) -> None:
    # Not in order, so that the tokens themselves are checked.
    assert drawn([0.2, 0.4, 0.1, 0.3], top_k=top_k) == set([1, 3, 0, 2][:count])


def test_top_p_counts_what_top_k_left() -> None:
    """0.4 and 0.3 become 0.57 and 0.43: the first alone reaches a half."""
    assert drawn(SHARES, top_p=0.5) == {0, 1}
    assert drawn(SHARES, top_p=0.5, top_k=2) == {0}


def test_the_filters_see_the_temperature() -> None:
    """At temperature 2 the shares even out, so that top-p needs more tokens."""
    assert drawn([0.9, 0.06, 0.03, 0.01], top_p=0.8) == {0}
    assert drawn([0.9, 0.06, 0.03, 0.01], top_p=0.8, temperature=2.0) == {0, 1}


def test_temperature_zero_takes_the_likeliest() -> None:
    assert drawn([0.2, 0.4, 0.1, 0.3], temperature=0.0, times=20) == {1}


@pytest.mark.parametrize("options", [OFF, {"top_k": 3}, {"top_p": 0.75}])
def test_frequencies(options: dict[str, Any]) -> None:
    """5 000 draws: chi-square far below its 99.9 % point for 3 degrees (16.3)."""
    shares, n = np.array([0.1, 0.4, 0.2, 0.3]), 5_000
    sampling = Sampling(**{**OFF, **options})
    expected = np.where(shares == 0.1, 0, shares) if options != OFF else shares
    expected = expected / expected.sum()
    rows = mx.repeat(logits(shares.tolist()), n, axis=0)
    noise = Noise(3, options.get("top_k") or 4).rows(0, n)
    counts = np.bincount(np.array(draw(rows, noise, sampling))[:, 0])
    counts = np.pad(counts, (0, 4 - len(counts)))
    assert counts[expected == 0].sum() == 0
    some = expected > 0
    chi = ((counts - n * expected)[some] ** 2 / (n * expected)[some]).sum()
    assert chi < 16.3


def sequence(seed: int | None, **options: Any) -> tuple[list[int], int]:
    sampler = Sampler(Sampling(seed=seed, **{**OFF, **options}), [], 64)
    row = mx.zeros((1, 64))
    return [int(np.array(sampler(row))[0, 0]) for _ in range(20)], sampler.seed


def test_a_seed_repeats_and_another_differs() -> None:
    assert sequence(7) == sequence(7)
    assert sequence(7)[0] != sequence(8)[0]
    assert len(set(sequence(7)[0])) > 5  # every token has a draw of its own
    assert sequence(2**64 - 1)[1] == 2**64 - 1


def test_without_a_seed_one_is_drawn_and_reported() -> None:
    tokens, seed = sequence(None)
    assert sequence(seed)[0] == tokens
    assert sequence(None)[1] != seed


def greedy(penalty: float, prompt: list[int]) -> Sampler:
    return Sampler(Sampling(0.0, repetition_penalty=penalty), prompt, 3)


def test_the_penalty_weakens_the_prompt_s_tokens() -> None:
    row = mx.array([[2.0, 1.5, -1.0]])
    assert greedy(1.0, [0])(row).item() == 0
    assert greedy(2.0, [0])(row).item() == 1  # 2 / 2 < 1.5
    assert greedy(2.0, [1, 1])(row).item() == 0


def test_the_penalty_multiplies_negative_logits() -> None:
    row = mx.array([[-1.0, -1.5, -9.0]])
    assert greedy(1.2, [0])(row).item() == 0  # -1.2
    assert greedy(2.0, [0])(row).item() == 1  # -2, where dividing would give -0.5


def test_a_penalty_below_one_favours_repetition() -> None:
    assert greedy(0.5, [1])(mx.array([[2.0, 1.5, -1.0]])).item() == 1


def test_the_penalty_remembers_what_was_generated() -> None:
    sampler, row = greedy(2.0, [2]), mx.array([[2.0, 1.9, 0.5]])
    assert [sampler(row).item() for _ in range(3)] == [0, 1, 0]


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"temperature": 5.0},
        {"top_k": 2},
        {"top_p": 0.5},
        {"min_p": 0.9},
        {"temperature": 0.0, "repetition_penalty": 0.01},
        {"repetition_penalty": 0.01},
    ],
    ids=str,
)
def test_what_is_suppressed_is_never_drawn(options: dict[str, Any]) -> None:
    """The two likeliest, which a penalty below 1 favours even more."""
    row = mx.array([[9.0, 1.0, 8.0, 0.5]])
    sampling = Sampling(**{**OFF, "seed": 3, **options})
    sampler = Sampler(sampling, [0, 2], 4, (0, 2))
    assert {int(np.array(sampler(row))[0, 0]) for _ in range(50)} <= {1, 3}


def test_the_next_best_takes_the_place_of_what_is_suppressed() -> None:
    sampler = Sampler(Sampling(0.0), [], 4, (2, 2, 0))
    assert sampler(mx.array([[3.0, 1.0, 4.0, 2.0]])).item() == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("min_p", -0.1),
        ("min_p", 1.0),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", float("nan")),
        ("seed", -1),
        ("seed", 2**64),
    ],
)
def test_a_bad_value_is_named(name: str, value: float) -> None:
    with pytest.raises(ChatError, match=rf"^{name} is {value}; it must be "):
        Sampling(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "size", [5, SORTED, SORTED + 1, 2 * SORTED, 9999, 100_003, 2**18]
)
@pytest.mark.parametrize("k", [1, 3, 64, 1500])
def test_the_likeliest_are_those_of_a_full_sort(size: int, k: int) -> None:
    """Spread, with many equal values, and with all of the largest side by side."""
    pick, k = np.random.RandomState(size + k), min(k, size)
    spread = pick.randn(size).astype(np.float32)
    for row in (spread, spread.round(1), spread + 9 * (np.arange(size) >= size - 70)):
        best = np.array(likeliest(mx.array(np.stack([row, -row])), k))
        for each, found in zip((row, -row), best, strict=True):
            assert len(set(found)) == k
            np.testing.assert_array_equal(each[found], -np.sort(-each)[:k])


@pytest.mark.slow
@pytest.mark.skipif(not which("g++"), reason="MLX compiles with g++ on a CPU")
@pytest.mark.parametrize("options", [{}, {"top_k": 0}, OFF, {"min_p": 0.1}], ids=str)
def test_compiled_as_on_a_gpu_it_draws_the_same(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [mx.random.normal((1, 3 * SORTED), key=mx.random.key(n)) for n in range(9)]
    tokens, compiled = [], []
    compile_now = mx.compile
    monkeypatch.setattr(mx, "compile", lambda f: compiled.append(f) or compile_now(f))
    for metal in (False, True):
        monkeypatch.setattr(mx.metal, "is_available", lambda metal=metal: metal)
        drawing_with.cache_clear()
        sampler = Sampler(Sampling(seed=1, **options), [], 3 * SORTED)
        tokens.append([sampler(3 * row).item() for row in rows])
    drawing_with.cache_clear()
    assert tokens[0] == tokens[1] and len(compiled) == 1


@pytest.mark.reference
def test_equals_transformers() -> None:
    """The whole chain on random logits: no forbidden token, and the same shares."""
    pick = np.random.RandomState(2)
    for _ in range(25):
        options: dict[str, Any] = {
            "temperature": float(pick.choice([0.5, 1.0, 1.7])),
            "top_k": int(pick.choice([0, 1, 5, 20, 500])),
            "top_p": float(pick.choice([0.3, 0.8, 0.95, 1.0])),
            "min_p": float(pick.choice([0.0, 0.05, 0.3])),
            "repetition_penalty": float(pick.choice([1.0, 1.3, 0.8])),
        }
        prompt = pick.randint(0, 40, 12).tolist()
        never = tuple(pick.randint(0, 40, pick.choice([1, 20])).tolist())
        scores = (pick.randn(1, 40) * 3).astype(np.float32)
        stated = {"do_sample": True, "suppress_tokens": list(never), **options}
        expected = reference_shares(scores, prompt, stated)
        found = shares(scores, prompt, Sampling(**options), never)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert not found[list(never)].any()


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"top_k": 0, "top_p": 1.0}])
@pytest.mark.parametrize("penalty", [1.0, 1.2])
def test_what_could_not_be_read_back_is_never_drawn(settings, penalty):
    """A head may have more rows than the model can read, and a prompt placeholders."""
    logits = mx.where(mx.arange(8) < 6, 0.0, 50.0)[None]
    sampling = Sampling(**settings, repetition_penalty=penalty, seed=1)
    sampler = Sampler(sampling, [0, 7], rows=6)
    tokens = mx.concatenate([sampler(logits) for _ in range(20)])
    assert np.array(tokens).max() < 6


def likeliest_ids(
    row: list[float], count: int, bias: Any = None, **options: Any
) -> list:
    sampler = Sampler(Sampling(temperature=0, **options), [], len(row), bias=bias)
    return [sampler(mx.array([row])).item() for _ in range(count)]


def test_presence_counts_once_and_frequency_each_time() -> None:
    row = [3.0, 2.5, 1.2]
    assert likeliest_ids(row, 4) == [0, 0, 0, 0]
    # 3.0, then 2.0 beside 2.5, then 2.0 beside 1.5.
    assert likeliest_ids(row, 5, presence_penalty=1.0) == [0, 1, 0, 0, 0]
    # 0 falls to 2.5 - 0.01 after its second time, and so on.
    assert likeliest_ids(row, 5, frequency_penalty=0.51) == [0, 1, 0, 1, 0]
    assert (
        likeliest_ids(row, 3, presence_penalty=-1.0, frequency_penalty=-1.0) == [0] * 3
    )


def test_what_was_said_before_counts_too() -> None:
    sampler = Sampler(Sampling(temperature=0, frequency_penalty=1.0), [], 3)
    sampler.note(mx.array([[0, 0, 2]]))
    assert sampler(mx.array([[3.0, 2.5, 1.2]])).item() == 1


def test_a_bias_is_added() -> None:
    assert likeliest_ids([3.0, 2.5, 1.2], 1, bias={2: 2.0}) == [2]
    assert likeliest_ids([3.0, 2.5, 1.2], 1, bias={0: -100}) == [1]


@pytest.mark.parametrize("bias", [{3: 1.0}, {-1: 1.0}, {"a": 1}, {0: "1"}, {True: 1}])
def test_a_bias_that_is_refused(bias: Any) -> None:
    with pytest.raises(ChatError, match="logit_bias"):
        likeliest_ids([3.0, 2.5, 1.2], 1, bias=bias)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {},
        OFF,
        {"top_k": 5, "repetition_penalty": 1.3},
        {"temperature": 0.0, "presence_penalty": 0.5, "frequency_penalty": 0.7},
    ],
)
def test_several_at_once_are_those_that_follow_one_by_one(options: dict) -> None:
    rows = mx.random.normal((12, 40), key=mx.random.key(4))
    settings = Sampling(seed=9, **options)
    one, several = (Sampler(settings, [3, 5], 40) for _ in range(2))
    tokens = [one(row[None]).item() for row in rows]
    for start, end in ((0, 1), (1, 7), (7, 12)):  # across blocks of noise, too
        drafts = mx.array([tokens[start : end - 1]], mx.int32)
        found = several.draw(rows[start:end], drafts)
        assert found.flatten().tolist() == tokens[start:end]
        several.note(found.T)
