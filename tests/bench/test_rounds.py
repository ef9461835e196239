"""Rounds, spreads and verdicts, without any timing."""

from collections.abc import Callable

import pytest

from mlx_gemma4.bench.rounds import Spread, compared, ratios, take_rounds
from mlx_gemma4.errors import PeerError


def test_ratios_pair_the_rounds() -> None:
    """Twice as fast in each round, though the rounds differ more than that."""
    assert ratios([2, 8, 4], [1, 4, 2]) == Spread(2.0, 2.0, 2.0)


def test_a_spread_is_shown_with_its_range() -> None:
    assert Spread(229.1, 179, 533).text() == "229.1 [179-533]"
    assert Spread(1, 0.5, 2).text("{:.2f}".format) == "1.00 [0.50-2.00]"


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ((1.3, 1.4, 1.5), (1, 1.1, 1.2), "faster"),
        ((1, 1.1, 1.2), (1.3, 1.4, 1.5), "slower"),
        ((1.3, 1.4, 1.5), (1, 1.1, 1.4), "unclear"),
        ((1.3, 1.4, 1.5), (1, 1.1, 1.3), "unclear"),
        ((1.3, 1.4), (1, 1.1), "unclear"),
    ],
)
def test_nothing_is_concluded_from_overlap_or_few_rounds(
    ours: tuple[float, ...], theirs: tuple[float, ...], expected: str
) -> None:
    assert compared(ours, theirs) == expected


def works(number: int) -> int:
    return number


def fails(error: Exception, after: int = 0) -> Callable[[int], int]:
    left = iter(range(after))

    def run(number: int) -> int:
        if next(left, None) is None:
            raise error
        return number

    return run


def test_who_comes_first_changes_with_every_round() -> None:
    seen: list[tuple[str, int]] = []
    both = {"a": works, "b": works}
    found = take_rounds(both, range(3), lambda *step: seen.append(step))
    assert seen == [("b", 0), ("a", 0), ("a", 1), ("b", 1), ("b", 2), ("a", 2)]
    assert found == {"a": [0, 1, 2], "b": [0, 1, 2]}


def test_what_fails_is_left_out_but_not_the_first_nor_a_peer() -> None:
    notes: list[str] = []

    def rounds(**contenders: Callable[[int], int]) -> dict[str, int]:
        found = take_rounds(contenders, range(3), note=notes.append)
        return {name: len(each) for name, each in found.items()}

    compiler = fails(RuntimeError("Unable to build metal library"))
    late = fails(ValueError("Thread group size"), after=2)
    assert rounds(a=works, b=compiler, c=works, d=late) == {"a": 3, "c": 3}
    assert notes == [
        "b fails here and is left out: Unable to build metal library",
        "d fails here and is left out: Thread group size",
    ]
    with pytest.raises(RuntimeError, match="Unable to build"):
        rounds(a=compiler, b=works)
    with pytest.raises(PeerError, match="gone"):
        rounds(a=works, b=fails(PeerError("gone")))
    with pytest.raises(ValueError, match="Thread group"):
        take_rounds({"a": works, "b": late}, range(3))
