"""Cues over pauses, and lines in columns, in scripts with and without blanks."""

import re
import unicodedata

import pytest

from mlx_gemma4.cli.terminal.text import clusters, columns
from mlx_gemma4.cli.transcribe.cues import cues
from mlx_gemma4.cli.transcribe.lines import CUE, LINE, two_lines
from mlx_gemma4.recordings.pieces import Part

FOUR = (
    "We should have left an hour ago, I told you so.",
    "Nobody answered.",
    "Then the lights went out, and for a while there was nothing but the rain.",
    "So we waited.",
)
JAPANESE = (
    "昨日の会議では、新しい製品の計画について長い時間話し合いましたが、最終的な決定は"
    "来週まで延期されることになりました。参加者の多くは、もう少し準備が必要だと感じて"
    "います。「そうですね」と部長は言いました。"
)
THAI = (
    "วันนี้อากาศดีมากเราจึงตัดสินใจไปเที่ยวทะเลกับเพื่อนเก่าที่ไม่ได้พบกันมานานหลายปีแล้ว"
    "และทุกคนก็มีความสุขมากที่ได้กลับมาพูดคุยเรื่องราวในอดีตด้วยกันอีกครั้งหนึ่ง"
)
KOREAN = (
    "어제 회의에서 새 제품의 계획을 오래 이야기했지만 결정은 다음 주로 미루어졌습니다. "
    * 3
)
FAMILY = "👨‍👩‍👧‍👦"


@pytest.mark.parametrize(
    "rate", [(1, 1, 1, 1), (0.75, 1.3, 1.1, 0.8), (1.2, 0.8, 0.8, 1.3)]
)
def test_each_sentence_is_where_it_is_spoken(rate):
    """Speech is faster here and slower there; pauses say where a sentence ends."""
    parts, at = [], 0.5
    for sentence, slower, pause in zip(FOUR, rate, (1.5, 4.5, 4.0, 0), strict=True):
        parts.append(Part(at, at + len(sentence) / 15 * slower))
        at = parts[-1].end + pause
    found = cues(0, at, " ".join(FOUR), parts)
    assert [cue.text for cue in found] == list(FOUR)
    for cue, part in zip(found, parts, strict=True):
        assert (cue.start, cue.end) == pytest.approx(tuple(part))


def test_no_cue_goes_on_over_a_pause():
    parts = [Part(i * 3.0, i * 3.0 + 1 + i % 2) for i in range(8)]
    text = (
        "and so it goes on and on without any mark at all until the very end of it " * 2
    )
    found = cues(0, 30, text.strip(), parts)
    assert " ".join(cue.text for cue in found) == text.strip()
    for cue in found:
        assert any(p.start <= cue.start < cue.end <= p.end for p in parts)
    for before, after in zip(found, found[1:], strict=False):
        assert before.end <= after.start


def test_one_word_and_many_pauses():
    (cue,) = cues(0, 9, "Stop!", [Part(0, 0.5), Part(3, 5), Part(8, 9)])
    assert (cue.start, cue.end, cue.text) == (3, 5, "Stop!")
    assert cues(0, 9, "", [Part(0, 1), Part(3, 5)]) == []


@pytest.mark.parametrize(
    ("text", "width"),
    [("abc", 3), ("日本", 4), ("ｶﾅ", 2), ("é", 1), ("e\u0301", 1), ("", 0)]
    + [
        (FAMILY, 2),
        ("🇩🇪🇯🇵", 4),
        ("👍🏽", 2),
        ("ที่", 1),
        ("น้ำ", 2),
        ("한국", 4),
        ("❤️", 2),
    ],
)
def test_columns(text, width):
    assert columns(text) == width


@pytest.mark.parametrize("text", [JAPANESE, THAI, KOREAN, "x" * 500, FAMILY * 60])
def test_no_line_is_wider_than_a_screen(text):
    whole = set(_ends(text))
    at = 0
    for cue in cues(0, 30, text):
        assert 0 < columns(cue.text) <= CUE
        lines = two_lines(cue.text).split("\n")
        assert len(lines) <= 2
        for line in lines:
            if text != "x" * 500:
                assert columns(line) <= LINE + 6
            at = text.index(line, at) + len(line)
            assert at in whole or at == len(text), line
    assert re.sub(r"\s", "", "".join(c.text for c in cues(0, 30, text))) == re.sub(
        r"\s", "", text
    )


def _ends(text: str) -> list[int]:
    at, ends = 0, []
    for cluster in clusters(text):
        at += len(cluster)
        ends.append(at)
    return ends


def test_marks_stay_where_they_belong():
    for cue in cues(0, 30, JAPANESE):
        for line in two_lines(cue.text).split("\n"):
            assert line[0] not in "、。」ー々っょ" and line[-1] != "「", line
    for cue in cues(0, 30, THAI):
        for line in two_lines(cue.text).split("\n"):
            assert unicodedata.category(line[0]) == "Lo", line
            assert line[-1] not in "เแโใไ", line
