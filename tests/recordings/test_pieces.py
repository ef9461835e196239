"""Cutting long recordings and putting their texts together again."""

import numpy as np
import pytest
from spoken import RATE, Talk

from mlx_gemma4.recordings.pieces import Piece, Segment, cut, merge, seam_texts

LIMIT = 30 * RATE


def gap_of(pauses: float, low: float, high: float, longest: float):
    """Short gaps, and with probability `pauses` one that lasts up to `longest`."""

    def gap(random: np.random.Generator) -> float:
        if random.random() < pauses:
            return random.uniform(0.3, longest)
        return random.uniform(low, high)

    return gap


GAPS = {
    "pauses": gap_of(0.15, 0.02, 0.15, 1.5),
    "none": gap_of(0, 0, 0.08, 0),
    "silences": gap_of(0.08, 0.05, 0.2, 14),
}


def written(talk: Talk) -> tuple[list[Piece], list[Segment]]:
    pieces = list(cut(talk.samples))
    heard = [(p, talk.heard(p.start, p.end), "") for p in pieces]
    return pieces, list(merge(heard))


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0, 1e-3, 1e-2])
@pytest.mark.parametrize("gaps", GAPS)
@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_lost_and_nothing_doubled(gaps, noise, seed):
    talk = Talk(35 + 25 * seed, GAPS[gaps], noise, seed)
    pieces, segments = written(talk)
    assert " ".join(s.text for s in segments) == talk.text
    assert all(len(piece.samples) <= LIMIT for piece in pieces)
    for piece in pieces:
        first = round(piece.start * RATE)
        part = talk.samples[first : first + len(piece.samples)]
        assert np.array_equal(piece.samples, part)
    for before, after in zip(segments, segments[1:], strict=False):
        assert before.start < before.end <= after.start < after.end


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_pauses_are_preferred_to_overlaps(seed):
    pieces = list(cut(Talk(300, GAPS["pauses"], 1e-3, seed).samples))
    assert not any(piece.overlap for piece in pieces)
    lengths = [piece.end - piece.start for piece in pieces[:-1]]
    assert np.median(lengths) > 20


def test_without_a_pause_pieces_overlap():
    pieces = list(cut(Talk(100, GAPS["none"], 0, 1).samples))
    assert len(pieces) == 4
    for before, after in zip(pieces, pieces[1:], strict=False):
        assert after.overlap == pytest.approx(before.end - after.start)
        assert 1.5 < after.overlap < 2.5


def test_a_short_recording_stays_whole():
    talk = Talk(29, GAPS["pauses"], 1e-2, 0)
    (piece,) = cut(talk.samples)
    assert (piece.start, piece.end) == (0, 29) and piece.overlap == 0


@pytest.mark.parametrize(("limit", "usual"), [(10, 6), (60, 40)])
def test_the_limit_is_the_models(limit: int, usual: int):
    talk = Talk(4 * limit, GAPS["pauses"], 1e-3, 0)
    pieces = list(cut(talk.samples, limit=limit))
    lengths = [len(piece.samples) / RATE for piece in pieces]
    assert max(lengths) <= limit and np.median(lengths[:-1]) > usual
    heard = [(piece, talk.heard(piece.start, piece.end), "") for piece in pieces]
    assert " ".join(segment.text for segment in merge(heard)) == talk.text


def test_what_fits_a_longer_limit_is_not_cut():
    talk = Talk(100, GAPS["none"], 0, 1)
    for limit in (101, np.inf):
        assert len(list(cut(talk.samples, limit=limit))) == 1


@pytest.mark.parametrize("seconds", [0, 0.005, 1, 100])
def test_of_digital_silence_there_are_no_pieces(seconds):
    assert list(cut(np.zeros(int(seconds * RATE), np.float32))) == []


def test_even_noise_is_cut_without_a_gap():
    noise = np.random.default_rng(0).standard_normal(200 * RATE).astype(np.float32)
    pieces = list(cut(noise))
    assert pieces[0].start == 0 and pieces[-1].end == 200
    assert all(b.start <= a.end for a, b in zip(pieces, pieces[1:], strict=False))


def test_very_quiet_speech_is_heard():
    talk = Talk(70, GAPS["pauses"], 0, 3)
    talk.samples *= 1e-3
    pieces, segments = written(talk)
    assert " ".join(s.text for s in segments) == talk.text


def test_a_word_between_long_silences_is_kept():
    sound = np.zeros(60 * RATE, np.float32)
    sound[30 * RATE : 30 * RATE + 3200] = 0.1
    (piece,) = cut(sound)
    assert 29.5 < piece.start < 30 and 30.2 < piece.end < 31


@pytest.mark.parametrize("length", [1, 159, 161, 30 * RATE + 1, 31 * RATE + 77])
def test_every_sample_is_in_a_piece(length):
    sound = np.full(length, 0.1, np.float32)
    pieces = list(cut(sound))
    assert pieces[0].start == 0 and pieces[-1].end == length / RATE
    assert sum(len(p.samples) for p in pieces) >= length


@pytest.mark.parametrize(
    ("before", "after", "joined"),
    [
        ("one two three", "two three four", "one two three four"),
        ("one two three fo", "wo three four five", "one two three four five"),
        ("one two three four", "three four", "one two three four"),
        ("It was the end.", "the end of May.", "It was the end of May."),
        ("He said: Come", "come here now", "He said: come here now"),
        ("it took five min", "minutes to go", "it took five minutes to go"),
        ("a long transcription", "scription of it", "a long transcription of it"),
        ("nothing in", "common here", "nothing in common here"),
        ("", "only after", "only after"),
        ("only before", "", "only before"),
        ("你好世界很大", "世界很大吗", "你好世界很大吗"),
        ("ah, ah, ah, yes", "ah, yes, no", "ah, ah, ah, yes, no"),
    ],
)
def test_seams(before, after, joined):
    parts = [part for part in seam_texts(before, after) if part]
    space = "" if joined[0] == "你" else " "
    assert space.join(parts) == joined


def test_a_common_word_far_from_the_seam_joins_nothing():
    before, after = "the cat sat on a mat", "dogs ran over the hill"
    assert seam_texts(before, after) == (before, after)


def test_segments_meet_in_the_middle_of_an_overlap():
    nothing = np.zeros(0, np.float32)
    first, second = Piece(0, 30, nothing), Piece(28, 50, nothing, overlap=2)
    segments = list(
        merge([(first, "one two\nthree", "eins zwei"), (second, "three four", "vier")])
    )
    assert segments == [
        Segment(0, 29, "one two", "eins zwei"),
        Segment(29, 50, "three four", "vier"),
    ]


def test_pieces_without_text_give_no_segment():
    nothing = np.zeros(0, np.float32)
    spoken = [(Piece(i, i + 1, nothing), text, "") for i, text in enumerate("a  b")]
    assert [s.text for s in merge(spoken)] == ["a", "b"]


def test_segments_come_as_soon_as_they_are_settled():
    nothing = np.zeros(0, np.float32)
    asked = []

    def heard():
        for i in range(3):
            asked.append(i)
            yield Piece(i, i + 1, nothing), f"text {i}", ""

    segments = merge(heard())
    assert next(segments).text == "text 0" and asked == [0, 1]


def test_what_was_heard_comes_before_an_interruption():
    piece = Piece(0, 5, np.zeros(0, np.float32))

    def interrupted():
        yield piece, "one", ""
        raise KeyboardInterrupt

    segments = merge(interrupted())
    assert next(segments).text == "one"
    with pytest.raises(KeyboardInterrupt):
        next(segments)
