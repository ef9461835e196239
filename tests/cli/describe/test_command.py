"""`gemma4 describe`: options, output and mistakes, with a scripted model."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from describing import CAT, content, picture, run
from pictures import claiming_png
from PIL import Image
from scripted import chunks

from mlx_gemma4.cli import loading
from mlx_gemma4.errors import install_command


@pytest.mark.parametrize(
    ("arguments", "kinds", "asked"),
    [
        (("a.png",), ["image"], "Describe this image."),
        (("a.png", "b.png"), ["image", "image"], "Describe these images."),
        (("*.png",), ["image", "image"], "Describe these images."),
        (("v.mp4",), ["video"], "Describe this video."),
        (("v.mp4", "v.mp4"), ["video", "video"], "Describe these videos."),
        (("v.mp4", "a.png"), ["video", "image"], "Describe these images and videos."),
        (("a.png", "What is this?"), ["image"], "What is this?"),
        (("a.png", "-p", "b.png"), ["image"], "b.png"),
    ],
)
def test_what_is_asked(seer, arguments, kinds, asked):
    picture("a.png")
    picture("b.png")
    Path("v.mp4").write_bytes(b"left to the processor")
    result = run(*arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{asked}\n", "")
    assert content(seer)[-1] == {"type": "text", "text": asked}
    assert [part["type"] for part in content(seer)[:-1]] == kinds


def test_pictures_are_read_in_order_before_the_question(seer):
    picture("a.png", size=(10, 20))
    picture("b.png", size=(30, 40))
    run("b.png", "a.png", "Which is larger?", "-s", "Be brief.")
    system, message = seer.asked[-1].messages
    assert system == {"role": "system", "content": "Be brief."}
    first, second, text = message["content"]
    assert (first["image"], second["image"]) == (Path("b.png"), Path("a.png"))
    assert text["text"] == "Which is larger?"


def test_options_reach_the_model(seer):
    picture("a.png")
    options = ("--temperature", "0.5", "--top-k", "3", "--max-tokens", "9", "--think")
    run("a.png", *options, "--seed", "4", "--stop", "x")
    asked = seer.asked[-1]
    assert (asked.temperature, asked.top_k, asked.max_tokens) == (0.5, 3, 9)
    assert (asked.thinking, asked.seed, asked.stop) == (True, 4, ["x"])


def test_video_options(seer):
    Path("v.mp4").write_bytes(b"left to the processor")
    run("v.mp4", "--frames", "5")
    assert content(seer)[0]["num_frames"] == 5
    run("v.mp4", "--fps", "0.5")
    assert content(seer)[0]["fps"] == 0.5


def test_ocr(seer):
    picture("a.png")
    assert run("a.png", "--ocr").stdout.startswith("Write down all text in this image")
    assert seer.asked[-1].temperature == 0
    assert run("a.png", "--ocr", "Only the total.").stdout == "Only the total.\n"
    run("a.png", "--ocr", "--temperature", "0.3")
    assert seer.asked[-1].temperature == 0.3


def test_json(seer):
    picture("a.png")
    picture("b.png")
    value = json.loads(run("a.png", "--json").stdout)
    assert (value["file"], value["model"]) == ("a.png", "m")
    assert value["text"] == "Describe this image."
    assert value["usage"]["prompt"] == 20
    value = json.loads(run("a.png", "b.png", "--json").stdout)
    assert value["files"] == ["a.png", "b.png"]


def test_standard_input(seer):
    data = Path(picture("a.png", size=(10, 20))).read_bytes()
    assert run("-", "What?", stdin=data).stdout == "What?\n"
    assert content(seer)[0]["image"].size == (10, 20)
    assert "standard input is empty" in run("-", stdin=b"").stderr


def test_boxes(seer):
    """In pixels of the picture as it is to be seen, not as the camera lay."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (60, 40), "grey").save("a.jpg", exif=exif)
    seer.answer = lambda messages: chunks(f"```json\n{CAT}\n```")
    result = run("a.jpg", "the cats", "--boxes", "out.png", "--stats")
    assert json.loads(result.stdout) == {
        "file": "a.jpg",
        "width": 40,
        "height": 60,
        "boxes": [{"label": "cat", "box": [20, 15, 40, 45]}],
        "drawn": "out.png",
    }
    assert "Drew 1 box in out.png." in result.stderr and "tok/s" in result.stderr
    with Image.open("out.png") as drawn:
        assert drawn.size == (40, 60)
        assert drawn.getpixel((30, 15)) == (0, 0, 0)
    assert content(seer)[1]["text"].startswith("the cats Answer only with JSON")
    assert seer.asked[-1].temperature == 0
    before = Path("out.png").read_bytes()
    result = run("a.jpg", "--boxes", "out.png", "--json")
    assert result.exit_code == 2
    assert "out.png exists; add --overwrite to replace it." in result.stderr
    assert Path("out.png").read_bytes() == before
    result = run("a.jpg", "--boxes", "out.png", "--json", "--overwrite")
    value = json.loads(result.stdout)
    assert (value["text"], len(value["boxes"])) == (f"```json\n{CAT}\n```", 1)


@pytest.mark.parametrize("answer", ["I see a cat.", "", '[{"box_2d": [1, 2]}]'])
def test_an_answer_without_boxes(seer, answer):
    seer.answer = lambda messages: chunks(answer)
    result = run(picture("a.png"), "--boxes", "out.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"The answer was: {answer or '(nothing)'}\n" in result.stderr
    assert "gemma4: a.png: the answer holds no boxes, so out.png" in result.stderr
    assert not Path("out.png").exists()
    assert run("a.png", "a.png", "--boxes", "{name}.png", "--each").exit_code == 2
    picture("b.png")
    assert run("*.png", "--boxes", "o-{name}.png", "--each").exit_code == 1


def test_nothing_found_is_an_answer(seer):
    seer.answer = lambda messages: chunks("```json\n[]\n```")
    result = run(picture("a.png"), "--boxes", "out.png")
    assert (result.exit_code, json.loads(result.stdout)["boxes"]) == (0, [])
    assert "Drew 0 boxes" in result.stderr and Path("out.png").exists()


def test_boxes_of_an_answer_that_was_cut_off(seer):
    half = f'{CAT[:-1]}, {{"box_2d": [9, 9, 9, 9]}}, {{"box_2d": [1, 2'
    seer.answer = lambda messages: chunks(half, finish_reason="length")
    result = run(picture("a.png"), "--boxes", "out.png")
    assert len(json.loads(result.stdout)["boxes"]) == 1
    assert "(cut off" in result.stderr and "2 of the boxes cannot be" in result.stderr
    seer.answer = lambda messages: chunks(CAT, finish_reason="loop")
    result = run("a.png", "--boxes", "out2.png")
    assert "(stopped: it says the same again" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((), 2, "Name a picture"),
        (("What is this?",), 2, "Name a picture"),
        (("a.png", ""), 2, "The prompt is empty"),
        (("a.pgn",), 5, "Did you mean a.png?"),
        (("gone.png", "a.png"), 5, "no file gone.png"),
        (("*.gif",), 5, "No file matches *.gif."),
        (("sub",), 5, "sub is a folder"),
        (("notes.txt",), 5, "notes.txt is not a picture"),
        (("empty.png",), 5, "empty.png is empty"),
        (("bomb.png",), 5, "bomb.png has too many pixels"),
        (("talk.wav",), 5, "gemma4 transcribe"),
        (("-", "-"), 2, "only once"),
        (("http://h/a.png",), 2, "Add --allow-url"),
        (("a.png", "--budget", "100"), 2, "it can be 70, 140, 280, 560 or 1120"),
        (("v.mp4", "--budget", "70"), 2, "--budget and --ocr are for pictures"),
        (("v.mp4", "--ocr"), 2, "--budget and --ocr are for pictures"),
        (("a.png", "--fps", "1"), 2, "are for videos"),
        (("v.mp4", "--fps", "1", "--frames", "2"), 2, "Choose one of"),
        (("v.mp4", "--frames", "0"), 2, "--frames"),
        (("v.mp4", "--fps", "inf"), 2, "--fps"),
        (("a.png", "--boxes", "sub/locked/o.png"), 5, "o.png: Permission denied"),
        (("a.png", "--temperature", "nan"), 2, "temperature"),
        (("a.png", "--ocr", "--boxes", "o.png"), 2, "Choose one of"),
        (("v.mp4", "--boxes", "o.png"), 2, "not on videos"),
        (("a.png", "b.png", "--boxes", "o.png"), 2, "--each --boxes 'boxes-{name}"),
        (("a.png", "b.png", "--each", "--boxes", "o.png"), 2, "--each --boxes"),
        (("a.png", "sub/a.png", "--each", "--boxes", "{name}o.png"), 2, "would both"),
        (("a.png", "--boxes", "a.png"), 5, "would be overwritten"),
        (("a.png", "--boxes", "sub/../a.png"), 5, "would be overwritten"),
        (("a.png", "--boxes", "o.txt"), 2, "--boxes writes .png"),
        (("a.png", "--boxes", "gone/o.png"), 5, "There is no folder gone"),
        (("a.png", "--boxes", "o/sub.png"), 5, "There is no folder o"),
    ],
)
def test_mistakes_are_found_before_a_model_is_loaded(
    seer, monkeypatch, arguments, code, told
):
    monkeypatch.setattr(loading, "load_to_chat", None)
    Path("sub").mkdir()
    for name in ("a.png", "b.png", "sub/a.png"):
        picture(name)
    for name in ("notes.txt", "v.mp4", "talk.wav"):
        Path(name).write_text("text")
    Path("empty.png").touch()
    Path("sub/locked").mkdir()
    access = os.access  # for the super-user every folder is open
    monkeypatch.setattr(os, "access", lambda p, m: p.name != "locked" and access(p, m))
    Path("bomb.png").write_bytes(claiming_png(20000, 20000))
    result = run(*arguments)
    assert (result.exit_code, told in result.stderr) == (code, True), result.stderr
    assert result.stdout == ""


def test_mistakes_told_with_a_remedy(seer):
    picture("a.png")
    for arguments, code, told in (
        (("a.png", "-p", ""), 2, "The prompt is empty"),
        (("a.png", "--boxes", ""), 2, "--boxes writes .png"),
        (("a.png", "--boxes", "~nobody-here/o.png"), 5, "There is no folder"),
        (("a.png", "What is in photo.jpg"), 5, "put -p before it"),
        (("What is this?", "a.png"), 5, "put -p before it"),
    ):
        result = run(*arguments)
        assert (result.exit_code, told in result.stderr) == (code, True), result.stderr


def test_of_several_pictures_only_the_files_are_held(seer):
    run(picture("a.png"), picture("b.png"))
    assert [p["image"] for p in content(seer)[:2]] == [Path("a.png"), Path("b.png")]


def test_a_video_without_a_suffix_gets_no_boxes(seer):
    Path("clip").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(64))
    result = run("clip", "--boxes", "out.png")
    assert result.exit_code == 5 and "clip is a video" in result.stderr
    assert not seer.asked


def test_errors_as_json(seer):
    result = run("gone.png", "--json")
    assert json.loads(result.stderr)["error"]["code"] == 5


def test_a_model_without_eyes(seer, monkeypatch):
    model = SimpleNamespace(config=SimpleNamespace(vision_config=None))
    processor = SimpleNamespace(template=None)
    monkeypatch.setattr(loading, "load_to_chat", lambda *_: (model, processor))
    result = run(picture("a.png"))
    assert result.exit_code == 2 and "m cannot see" in result.stderr


def pages(name: str) -> str:
    first, second = (Image.new("RGB", (8, 6), colour) for colour in ("red", "blue"))
    first.save(name, save_all=True, append_images=[second])
    return name


def test_a_document_has_pages(seer):
    assert run(pages("a.tif")).stdout == "Describe these pages.\n"
    assert content(seer)[0] == {"type": "image", "image": Path("a.tif")}
    assert run("a.tif", "--ocr").stdout.startswith("Write down all text in these pages")
    assert run("a.tif", "What is this image?").stdout == "What is this image?\n"
    result = run("a.tif", "--boxes", "out.png")
    assert result.exit_code == 5
    assert "a.tif has several pages; --boxes draws on one picture" in result.stderr


def test_a_moving_picture_is_described_as_a_video(seer):
    """Where boxes or a budget are asked for, which only pictures have, its first."""
    assert run(pages("a.webp"), "--fps", "2").stdout == "Describe this video.\n"
    assert content(seer)[0] == {"type": "video", "video": Path("a.webp"), "fps": 2}
    result = run("a.webp", "--ocr")
    assert "Warning: a.webp moves: only the first of its 2 frames" in result.stderr
    assert content(seer)[0]["image"].size == (8, 6)
    seer.answer = lambda messages: chunks(CAT)
    assert run("a.webp", "--boxes", "out.png").exit_code == 0
    picture("b.png")
    assert run("b.png", "--fps", "2").exit_code == 2


def test_a_pdf_without_what_reads_it(seer, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    Path("a.pdf").write_bytes(b"%PDF-1.7\n")
    picture("b.png")
    result = run("a.pdf", "b.png", "--each")
    assert result.exit_code == 5 and "b.png:\n" in result.stdout
    assert "a.pdf is a PDF document. Reading its pages needs" in result.stderr
    assert install_command("media") in result.stderr
