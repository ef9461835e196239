"""Drafts from the text so far, by small cases and against a search of all of it."""

import random

from mlx_gemma4.decoding.lookup import LONGEST, TRIED, Lookup


def test_what_followed_the_last_tokens_is_proposed() -> None:
    text = Lookup([1, 2, 3, 4, 5, 9, 2])
    assert text.following is None and text.propose(3) == []  # 9, 2 is new
    text.follow(3)
    assert text.following == 4 and text.propose(3) == [4, 5, 9]
    assert text.propose(0) == []


def test_the_place_that_is_most_alike_is_taken_and_of_several_the_newest() -> None:
    assert Lookup([7, 1, 2, 5, 8, 1, 2, 6, 7, 1, 2]).following == 5
    assert Lookup([7, 1, 2, 5, 7, 1, 2, 6, 7, 1, 2]).following == 6


def test_what_goes_round_goes_on() -> None:
    assert Lookup([4, 4, 4]).propose(5) == [4] * 5
    assert Lookup([1, 2, 3, 1, 2]).propose(5) == [3, 1, 2, 3, 1]


def test_equals_a_search_of_the_whole_text() -> None:
    pick = random.Random(1)
    for _ in range(20):
        tokens = [pick.randrange(4) for _ in range(60)]
        text = Lookup(tokens[:20])
        for end in range(20, 60):
            assert text.following == searched(tokens[:end])
            text.follow(tokens[end])


def searched(tokens: list[int]) -> int | None:
    end = len(tokens)

    def alike(place: int) -> int:
        lengths = range(1, min(LONGEST, place) + 1)
        same = [n for n in lengths if tokens[place - n : place] == tokens[end - n :]]
        return max(same, default=0)

    places = [place for place in range(end - 1, 1, -1) if alike(place) > 1][:TRIED]
    best = max(places, key=alike, default=None)
    return None if best is None else tokens[best]
