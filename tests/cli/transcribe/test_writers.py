"""txt, srt, vtt and json, and cues."""

import json
import re

import pytest

from mlx_gemma4.cli.terminal.text import columns
from mlx_gemma4.cli.transcribe.cues import cues
from mlx_gemma4.cli.transcribe.lines import CUE, two_lines
from mlx_gemma4.cli.transcribe.transcript import WRITERS, Transcript, timestamp
from mlx_gemma4.recordings.pieces import Segment

SENTENCES = (
    "This is the first sentence, and it is rather short. The second one goes on for "
    "quite a while, because it has a clause or two, and it does not fit with others! "
    "Does the third? Yes."
)


def transcript(*segments: Segment, translated_to: str | None = None) -> Transcript:
    return Transcript(
        "talk.wav", "demo", 61.23456, "English", translated_to, list(segments)
    )


TWO = transcript(Segment(0, 1.5, "Hello <there> & you."), Segment(1.5, 3661.007, "Bye"))


def test_txt_has_a_line_per_segment():
    assert WRITERS["txt"](TWO) == "Hello <there> & you.\nBye\n"


def test_srt():
    assert WRITERS["srt"](TWO) == (
        "1\n00:00:00,000 --> 00:00:01,500\nHello <there> & you.\n\n"
        "2\n00:00:01,500 --> 01:01:01,007\nBye\n"
    )


def test_vtt():
    assert WRITERS["vtt"](TWO) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello &lt;there&gt; &amp; you.\n\n"
        "00:00:01.500 --> 01:01:01.007\nBye\n"
    )


def test_json_of_a_file_whose_name_is_no_text():
    odd = Transcript("caf\udce9.wav", "demo", 1.0)
    written = WRITERS["json"](odd).encode("utf-8")
    assert json.loads(written)["file"] == "caf\udce9.wav"


def test_json_has_the_shape_that_tools_know():
    value = json.loads(WRITERS["json"](TWO))
    assert value["text"] == "Hello <there> & you. Bye"
    assert value["duration"] == 61.235 and value["language"] == "English"
    assert value["segments"][1] == {
        "id": 1,
        "start": 1.5,
        "end": 3661.007,
        "text": "Bye",
    }
    assert "translation" not in value


def test_a_translation_is_what_is_shown():
    both = transcript(Segment(0, 1, "Guten Tag", "Good day"), translated_to="English")
    assert WRITERS["txt"](both) == "Good day\n"
    assert "Good day" in WRITERS["srt"](both) and "Guten" not in WRITERS["srt"](both)
    value = json.loads(WRITERS["json"](both))
    assert (value["text"], value["translation"]) == ("Guten Tag", "Good day")
    assert value["segments"][0]["translation"] == "Good day"


@pytest.mark.parametrize("form", WRITERS)
def test_nothing_said(form):
    text = WRITERS[form](transcript())
    assert text == {"txt": "", "srt": "", "vtt": "WEBVTT\n"}.get(form, text)


def test_scripts_without_spaces_are_joined_without():
    value = transcript(Segment(0, 1, "你好。"), Segment(1, 2, "世界")).as_object()
    assert value["text"] == "你好。世界"


@pytest.mark.parametrize(
    "text",
    [SENTENCES, "word " * 200, "x" * 500, "很长的句子。" * 60, "a, " * 90, "short"],
    ids=["sentences", "words", "one", "chinese", "clauses", "short"],
)
def test_cues_keep_all_text_and_share_the_time(text):
    text = " ".join(text.split())
    parts = cues(10, 38, text)
    plain = re.sub(r"\s", "", "".join(part.text for part in parts))
    assert plain == re.sub(r"\s", "", text)
    assert all(0 < columns(part.text) <= CUE for part in parts)
    assert parts[0].start == 10 and parts[-1].end == pytest.approx(38)
    for before, after in zip(parts, parts[1:], strict=False):
        assert before.start < before.end == after.start
    assert len(parts) <= columns(text) // (CUE // 2) + 1


def test_cues_end_where_sentences_and_clauses_do():
    first, *rest = cues(0, 28, SENTENCES)
    assert first.text == "This is the first sentence, and it is rather short."
    assert all(part.text[-1] in ",.!?" for part in rest)


def test_two_lines_of_like_length():
    assert two_lines("short") == "short"
    assert two_lines("x" * 80) == "x" * 80
    lines = two_lines("one and two and three and four and five and six and").split("\n")
    assert len(lines) == 2 and abs(len(lines[0]) - len(lines[1])) < 6


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "00:00:00,000"), (59.9996, "00:01:00,000"), (3599.5, "00:59:59,500")],
)
def test_timestamps_carry_over(seconds, told):
    assert timestamp(seconds, ",") == told
