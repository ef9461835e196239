"""Pictures, recordings and videos in `gemma4 chat`: attached, kept, taken back."""

import numpy as np
import pytest
import soundfile
from PIL import Image
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from scripted import Lines, roles, shapes
from turns import Author

from mlx_gemma4 import load
from mlx_gemma4.cli.chat.commands import complete
from mlx_gemma4.cli.chat.conversation import Conversation
from mlx_gemma4.cli.chat.interactive import converse
from mlx_gemma4.cli.chat.lines import WordCompleter
from mlx_gemma4.cli.chat.session import Session
from mlx_gemma4.cli.render import Screen
from mlx_gemma4.cli.settings import Settings
from mlx_gemma4.errors import ChatError
from mlx_gemma4.generation import turns

PICTURE = "attached a.png (image, 40x30)\n"


def test_a_picture_goes_with_the_next_message_only(seeing, script, here, capsys):
    converse(seeing, Lines("/image a.png", "what?", "and?"))
    assert capsys.readouterr().err == PICTURE
    assert [shapes(m) for m in script.asked[1].messages] == [
        ["a.png", "what?"],
        ["I see."],
        ["and?"],
    ]


def test_several_files_keep_their_order(seeing, script, here, capsys):
    converse(seeing, Lines("/audio d.wav", "/image 'b c.png' a.png", "all?"))
    assert capsys.readouterr().err.splitlines() == [
        "attached d.wav (audio, 0.5 s)",
        "attached b c.png (image, 30x40)",
        "attached a.png (image, 40x30)",
    ]
    sent = script.asked[0].messages[0]
    assert shapes(sent) == ["d.wav", "b c.png", "a.png", "all?"]


def test_a_dropped_file_waits_for_the_message(seeing, script, here, capsys):
    converse(seeing, Lines(f"{here}/a.png ", f"is '{here}/b c.png' blue?"))
    assert [shapes(m) for m in script.asked[0].messages] == [
        ["a.png", "b c.png", "is blue?"]
    ]


def test_two_slashes_and_tool_results_are_sent_as_they_stand(seeing, script, here):
    converse(seeing, Lines(f"/{here}/a.png"))
    assert shapes(script.asked[0].messages[0]) == [f"{here}/a.png"]
    call = {"id": "1", "function": {"name": "f", "arguments": {}}}
    seeing.chat.messages[-1]["tool_calls"] = [call]
    converse(seeing, Lines(f"{here}/a.png"))
    assert seeing.chat.attached == []
    assert script.asked[1].messages[-1]["content"] == f"{here}/a.png"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/image gone.png", "There is no picture"),
        ("/image a.png bad.png", "bad.png is damaged"),
        ("/image notes.txt", "notes.txt is "),
        ("/image d.wav", "d.wav is no picture: attach it with /audio."),
        ("/audio a.png", "a.png is no recording: attach it with /image."),
        ("/video d.wav", "d.wav is no video: attach it with /audio."),
        ("/audio gone.wav", "There is no recording"),
        ("/image .", "is a folder"),
        ("/image 'a.png", "left open in: 'a.png"),
        ("./bad.png", "bad.png is damaged"),
        ("./gone.png", "There is no file"),
        ("/detach", "Nothing is attached"),
    ],
)
def test_what_cannot_be_attached_is_refused(seeing, script, here, capsys, line, said):
    converse(seeing, Lines(line, "go on"))
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and said in errors[0]
    assert [shapes(m) for m in script.asked[0].messages] == [["go on"]]


def test_a_message_with_a_bad_file_can_be_corrected(seeing, script, here):
    reader = Lines("what is in ./a.png and ./bad.png", "/bye")
    converse(seeing, reader)
    assert reader.drafts == ["", "what is in ./a.png and ./bad.png"]
    assert script.asked == [] and seeing.chat.attached == []


def test_a_recording_that_is_too_long_is_named(seeing, here, capsys):
    soundfile.write("long.wav", np.zeros(31 * 8000, np.float32), 8000)
    converse(seeing, Lines("/audio long.wav"))
    said = capsys.readouterr().err
    assert said.startswith("long.wav: The recording lasts 31.0 s") and "30 s" in said


def test_what_is_attached_is_listed_and_detached(seeing, script, here, capsys):
    lines = ("/image", "/image a.png 'b c.png'", "/audio d.wav", "/detach b\\ c.png")
    converse(seeing, Lines(*lines, "/audio", "/detach x", "/detach", "hello"))
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("Nothing is attached.")
    assert said[4:] == [
        "detached b c.png",
        PICTURE.strip(),
        "attached d.wav (audio, 0.5 s)",
        "x is not attached, but a.png, d.wav.",
        "detached a.png, d.wav",
    ]
    assert shapes(script.asked[0].messages[0]) == ["hello"]


def test_regen_and_edit_keep_what_was_attached(seeing, script, here):
    lines = ("./a.png one", "/regen", "/edit two", "/edit three ./d.wav", "/edit")
    reader = Lines(*lines, "four")
    converse(seeing, reader)
    assert [shapes(asked.messages[0]) for asked in script.asked] == [
        ["a.png", "one"],
        ["a.png", "one"],
        ["a.png", "two"],
        ["a.png", "d.wav", "three"],
        ["a.png", "d.wav", "four"],
    ]
    assert reader.drafts[-2] == "three"
    assert roles(seeing) == "user assistant"


def test_undo_and_clear_take_what_was_attached(seeing, script, here, capsys):
    lines = ("./a.png one", "/undo", "two", "/image a.png", "/clear", "three")
    converse(seeing, Lines(*lines))
    assert "Took back: one (a.png)\n" in capsys.readouterr().err
    assert [shapes(asked.messages[0]) for asked in script.asked[1:]] == [
        ["two"],
        ["three"],
    ]


def test_an_edit_with_a_bad_file_changes_nothing(seeing, script, here):
    converse(seeing, Lines("./a.png one", "/edit two ./bad.png"))
    assert len(script.asked) == 1
    assert shapes(seeing.chat.messages[0]) == ["a.png", "one"]


def test_a_refused_message_leaves_its_files_attached(seeing, script, here):
    def refuse(messages: list[dict]):
        raise ChatError("too long")
        yield

    answer, script.answer = script.answer, refuse
    converse(seeing, Lines("/image a.png", "one"))
    assert seeing.chat.messages == []
    script.answer = answer
    converse(seeing, Lines("two"))
    assert shapes(script.asked[1].messages[0]) == ["a.png", "two"]
    assert seeing.chat.attached == []


def test_a_file_that_changes_later_changes_nothing(seeing, script, here):
    converse(seeing, Lines("./a.png one"))
    before = seeing.chat.processor(seeing.chat.messages)
    Image.new("RGB", (90, 90)).save("a.png")
    (here / "a.png").unlink()
    converse(seeing, Lines("two"))
    after = seeing.chat.processor(script.asked[1].messages)
    assert after.text.startswith(before.text.partition("<turn|>")[0])


def test_the_budget_of_pictures(seeing, here, capsys):
    lines = ("/image b\\ c.png", "/set image_tokens 70", "./a.png")
    converse(seeing, Lines(*lines, "/set image_tokens 71"))
    counts = [p["image"].text.count("<|image|>") for p in seeing.chat.attached]
    assert counts[0] <= 12 < counts[1] <= 70
    assert "is 71; it can be 70, 140, 280, 560 or 1120." in capsys.readouterr().err


def test_a_video_and_its_sound(seeing, script, here, capsys):
    pytest.importorskip("av", reason="needs the extra `media`")
    frames = [Image.new("RGB", (24, 36), color) for color in ("red", "blue")]
    frames[0].save("e.gif", save_all=True, append_images=frames[1:], duration=500)
    converse(seeing, Lines("/video e.gif", "/image e.gif", "what?"))
    video, warning, image = capsys.readouterr().err.splitlines()
    assert video == "attached e.gif (video, 2 frames)"
    assert "e.gif moves: only the first of its 2 frames is seen here" in warning
    assert image == "attached e.gif (image, 24x36)"
    assert shapes(script.asked[0].messages[0]) == ["e.gif", "e.gif", "what?"]


def test_paths_are_completed(here):
    def offered(before: str) -> list[str]:
        event = CompleteEvent(completion_requested=True)
        found = WordCompleter(complete).get_completions(Document(before), event)
        return [completion.text for completion in found]

    (here / "b folder").mkdir()
    assert offered("/image b") == ["b\\ c.png", "b\\ folder/", "bad.png"]
    assert offered("/image a.png b\\ ") == ["b\\ c.png", "b\\ folder/"]
    assert offered("/image 'b ") == ["'b c.png'", "'b folder/"]
    assert offered(f"/image {here}/a") == [f"{here}/a.png"]
    assert offered("/audio ") == ["b\\ folder/", "d.wav"]
    assert offered("/image nowhere/") == []


def test_each_turn_reads_only_what_is_new(whole, here, monkeypatch):
    """With a picture in the second turn, the third reads no more than its text."""
    model, processor = load(whole)
    author = Author(monkeypatch)
    author.answer = processor.tokenizer.encode("Yes.<turn|>")
    chat = Conversation(model, processor, Settings(max_tokens=8))
    session = Session(chat, Screen(), "tiny", 1.0)
    read, prompts = [], []
    for line in ("one", "./a.png ./d.wav two", "three", "four"):
        converse(session, Lines(line))
        stats = chat.last.stats
        read.append(stats.prompt_tokens - stats.cached_tokens)
        prompts.append(stats.prompt_tokens)
    assert turns.stream_generate.__module__ == "mlx_gemma4.generation.loop"
    media = len(processor.tokenizer.encode("two")) + 12
    assert read[1] > media
    assert read[2] == read[3] and read[3] < media
    assert prompts[3] - prompts[2] <= read[3] + len(author.answer)


def test_a_document(seeing, script, here, capsys):
    """All of its pages; and under a name that only looks like its own."""
    pages = [Image.new("RGB", (24, 36), color) for color in ("red", "blue", "green")]
    pages[0].save("my\u202fscan.tif", save_all=True, append_images=pages[1:])
    converse(seeing, Lines("/image my scan.tif", "what?"))
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "attached my\u202fscan.tif (image, 3 pages)"
    part = script.asked[0].messages[0]["content"][0]
    assert len(part["image"].attached) == 3
