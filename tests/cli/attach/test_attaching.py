"""Files attached twice, to nothing, or for a model that lacks the sense."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_media
from PIL import Image
from scripted import Lines, shapes
from sounds import TRACK_RATE, write_tracks

from mlx_gemma4.cli.chat.conversation import Conversation
from mlx_gemma4.cli.chat.interactive import converse
from mlx_gemma4.cli.chat.session import Session
from mlx_gemma4.cli.render import Screen
from mlx_gemma4.cli.settings import Settings
from mlx_gemma4.config import Config
from mlx_gemma4.prompt.processor import Processor

PICTURE = "attached a.png (image, 40x30)"


@pytest.fixture
def lacking(script, stand_in, tmp_path_factory) -> Callable[..., Session]:
    """Conversations with a scripted model that lacks the senses named."""

    def without(*senses: str) -> Session:
        folder = tmp_path_factory.mktemp("without")
        missing: dict[str, Any] = dict.fromkeys(senses)
        tiny_media.write_checkpoint(folder, **missing)
        config = Config.from_file(folder / "config.json")
        model: Any = SimpleNamespace(**{**vars(stand_in), "config": config})
        chat = Conversation(model, Processor.from_folder(folder, config), Settings())
        return Session(chat, Screen(), "tiny", 1.0)

    return without


@pytest.mark.parametrize(
    ("sense", "line", "said"),
    [
        ("vision", "/image a.png", "tiny cannot see"),
        ("vision", "./a.png", "tiny cannot see"),
        ("vision", "./a.png './b c.png'", "tiny cannot see"),
        ("audio", "/audio d.wav", "tiny cannot hear"),
    ],
)
def test_a_model_without_the_sense(script, here, capsys, lacking, sense, line, said):
    converse(lacking(sense), Lines(line))
    assert capsys.readouterr().err.startswith(f"{said}. Choose a model")
    assert script.asked == []


def test_a_sentence_about_a_file_beyond_the_model_is_text(
    script, here, capsys, lacking
):
    line = "compare ./a.png with ./d.wav, please"
    converse(lacking("vision", "audio"), Lines(line))
    assert shapes(script.asked[-1].messages[0]) == [line]
    assert capsys.readouterr().err.splitlines() == [
        "tiny cannot see: a.png is sent as text.",
        "tiny cannot hear: d.wav is sent as text.",
    ]
    converse(lacking("audio"), Lines(line))
    assert shapes(script.asked[-1].messages[0]) == [
        "a.png",
        "compare with ./d.wav, please",
    ]
    assert capsys.readouterr().err.splitlines() == [
        PICTURE,
        "tiny cannot hear: d.wav is sent as text.",
    ]


def test_a_line_recalled_after_ctrl_c_attaches_its_files_once(
    seeing, script, here, capsys
):
    def stop(messages: list[dict]):
        raise KeyboardInterrupt
        yield

    answer, script.answer = script.answer, stop
    converse(seeing, Lines("/image 'b c.png'", "is ./a.png red?"))
    script.answer = answer
    Image.new("RGB", (20, 10), "red").save("a.png")
    converse(seeing, Lines("is ./a.png red?"))
    assert shapes(script.asked[-1].messages[0]) == ["b c.png", "a.png", "is red?"]
    assert capsys.readouterr().err.splitlines()[1:] == [
        PICTURE,
        "attached a.png (image, 20x10), in place of the one from before",
    ]


def test_a_file_that_is_named_again_counts_once(seeing, script, here, capsys):
    seen: list[list[str]] = []
    seeing.chat.check_media = lambda parts, _: seen.append([p["path"] for p in parts])
    converse(seeing, Lines("/image a.png", "/image 'b c.png'", "./a.png ./a.png"))
    both = [str(here / "b c.png"), str(here / "a.png")]
    assert seen == [both[1:], both[::-1], both]


def test_an_edit_that_names_a_picture_again_reads_it_anew(seeing, script, here, capsys):
    converse(seeing, Lines("./a.png ./d.wav one"))
    Image.new("RGB", (20, 10), "red").save("a.png")
    converse(seeing, Lines("/edit ./a.png two"))
    sent = script.asked[-1].messages[0]
    assert shapes(sent) == ["a.png", "d.wav", "two"]
    assert sent["content"][0]["label"] == "a.png (image, 20x10)"
    assert "in place of the one from before" in capsys.readouterr().err


def test_an_edit_of_nothing_attaches_nothing(seeing, script, here, capsys):
    converse(seeing, Lines("/edit ./a.png two"))
    assert capsys.readouterr().err == "There is no message to edit yet.\n"
    assert seeing.chat.attached == [] and script.asked == []


def test_one_of_several_sound_tracks(seeing, script, here, capsys):
    tracks = [[np.ones(seconds * TRACK_RATE) / 8] for seconds in (1, 2)]
    write_tracks(here / "film.mkv", tracks)
    converse(seeing, Lines("/audio --track 2 film.mkv", "/save t.json", "hear"))
    converse(seeing, Lines("/audio --track=1 film.mkv", "/audio --track 3 film.mkv"))
    converse(seeing, Lines("/audio --track 0 film.mkv", "/save t.json", "/audio"))
    assert capsys.readouterr().err.splitlines() == [
        "attached film.mkv (audio, 2.0 s, track 2)",
        "Saved 0 messages to t.json.",
        "attached film.mkv (audio, 1.0 s, track 1)",
        f"{here}/film.mkv has 2 sound tracks: there is no track 3.",
        "--track is 0; sound tracks are counted from 1.",
        "Saved 2 messages to t.json.",
        "attached film.mkv (audio, 1.0 s, track 1)",
    ]
    converse(seeing, Lines("/clear", "/load t.json", "again"))
    (part, _) = script.asked[-1].messages[0]["content"]
    assert part["label"] == "film.mkv (audio, 2.0 s, track 2)"


def test_a_word_that_is_no_file_is_said(seeing, script, here, capsys):
    converse(seeing, Lines("is ./a.png like ./nope.png?"))
    assert shapes(script.asked[-1].messages[0]) == ["a.png", "is like ./nope.png?"]
    assert capsys.readouterr().err.splitlines() == [
        PICTURE,
        "Sent as words: ./nope.png (no such file)",
    ]


def test_the_bare_name_of_a_medium_is_said(seeing, script, here, capsys):
    """Once: what is attached, or was, may be spoken of by its name."""
    converse(seeing, Lines("what is in a.png, d.wav or e.png?", "./a.png so a.png?"))
    converse(seeing, Lines("is a.png red?"))
    assert [shapes(asked.messages[-1]) for asked in script.asked] == [
        ["what is in a.png, d.wav or e.png?"],
        ["a.png", "so a.png?"],
        ["is a.png red?"],
    ]
    assert capsys.readouterr().err.splitlines() == [
        "Sent as words: a.png (./a.png attaches it), d.wav (./d.wav attaches it)",
        PICTURE,
    ]


def test_paths_are_words_where_that_was_asked_for(seeing, script, here, capsys):
    seeing.attach_named = False
    converse(seeing, Lines("./a.png", "/image a.png", "/edit ./d.wav"))
    assert [shapes(asked.messages[0]) for asked in script.asked] == [
        ["./a.png"],
        ["a.png", "./d.wav"],
    ]
