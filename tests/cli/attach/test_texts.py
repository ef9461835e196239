"""Text, code and PDFs in messages: read in, kept apart from what was typed, saved."""

import sys
from pathlib import Path

import pytest
from pictures import pdf, written_pdf
from scripted import Lines, shapes

from mlx_gemma4.cli.attach.messages import content_of, media_of, text_of, with_files
from mlx_gemma4.cli.attach.texts import read_text_part, use_of
from mlx_gemma4.cli.chat.interactive import converse
from mlx_gemma4.cli.errors import InputError
from mlx_gemma4.errors import install_command

NOTES = "notes.txt:\n```\none\ntwo\n```\n\nSum up notes.txt"


@pytest.fixture
def notes(here: Path) -> Path:
    (here / "notes.txt").write_text("one\r\ntwo\r\n", newline="")
    return here / "notes.txt"


def test_a_text_goes_before_what_was_typed(seeing, script, notes, capsys):
    converse(seeing, Lines("Sum up ./notes.txt", "and?"))
    assert [shapes(m) for m in script.asked[1].messages] == [
        [NOTES],
        ["I see."],
        ["and?"],
    ]
    assert capsys.readouterr().err == "attached notes.txt (text, 2 lines)\n"


def test_media_go_before_texts(seeing, script, notes):
    converse(seeing, Lines("/file notes.txt a.png", "Sum up"))
    sent = script.asked[0].messages[0]
    assert shapes(sent) == ["a.png", NOTES.removesuffix(" notes.txt")]


def test_a_text_waits_and_is_taken_back(seeing, script, notes, capsys):
    converse(seeing, Lines("notes.txt", "/file", "/detach notes.txt", "hi"))
    assert shapes(script.asked[0].messages[0]) == ["hi"]
    said = ["attached notes.txt (text, 2 lines)"] * 2 + ["detached notes.txt"]
    assert capsys.readouterr().err.splitlines() == said


def test_an_edit_keeps_the_text_and_undo_drops_it(seeing, script, notes, capsys):
    converse(seeing, Lines("Sum up ./notes.txt", "/edit again", "/undo", "alone"))
    sent = [shapes(asked.messages[0]) for asked in script.asked]
    again = NOTES.replace("Sum up notes.txt", "again")
    assert sent == [[NOTES], [again], ["alone"]]
    assert "Took back: again (notes.txt)" in capsys.readouterr().err


def test_a_saved_conversation_holds_the_text(seeing, script, notes, capsys):
    converse(seeing, Lines("Sum up ./notes.txt", "/save talk.json"))
    notes.unlink()
    lines = Lines("/clear", "/load talk.json", "/edit")
    converse(seeing, lines)
    (part,) = seeing.chat.attached
    assert (part["type"], part["text"]) == ("file", "one\ntwo\n")
    assert lines.drafts[-1] == "Sum up notes.txt"


def test_what_is_typed_is_told_from_the_text() -> None:
    files = [{"type": "file", "path": "/x/a.md", "text": "```\ncode\n```"}]
    content = content_of("why?", files)
    message = {"role": "user", "content": content}
    assert text_of(message) == "why?" and media_of(message) == files
    assert isinstance(content, list)
    assert content[0]["text"] == "a.md:\n````\n```\ncode\n```\n````\n\nwhy?"
    assert with_files("", files) == "a.md:\n````\n```\ncode\n```\n````"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xef\xbb\xbfgr\xc3\xbcn\r\n", "grün\n"),
        ("grün".encode("utf-16"), "grün"),
        (b"print('hi')\n", "print('hi')\n"),
        (b"<!doctype html><p>hi", "<!doctype html><p>hi"),
        (b"\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
    ],
)
def test_texts(tmp_path: Path, data: bytes, text: str) -> None:
    path = tmp_path / "some.file"
    path.write_bytes(data)
    assert use_of(path) == "file"
    assert read_text_part(path)["text"] == text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "some.file holds no text"),
        (b" \n", "some.file holds no text"),
        (b"a" * 2000 + b"\0", "neither text nor a medium"),
        ("grün".encode("latin-1"), r"not UTF-8 text \(byte 2\)"),
        (b"\xff\xfea", r"not UTF-8 text"),
    ],
)
def test_what_is_no_text(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "some.file"
    path.write_bytes(data)
    with pytest.raises(InputError, match=said):
        read_text_part(path)


def test_a_damaged_text_is_not_sent(seeing, script, here, capsys):
    (here / "notes.txt").write_bytes("grün".encode("latin-1"))
    lines = Lines("Sum up ./notes.txt")
    converse(seeing, lines)
    assert script.asked == [] and lines.drafts[-1] == "Sum up ./notes.txt"
    assert "is not UTF-8 text" in capsys.readouterr().err


def test_a_pdf_with_words_is_its_text(seeing, script, here, capsys):
    pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
    (here / "paper.pdf").write_bytes(written_pdf("Hello", "", "World"))
    converse(seeing, Lines("Sum up ./paper.pdf"))
    text = (
        "paper.pdf:\n```\n[page 1]\nHello\n\n[page 3]\nWorld\n```\n\nSum up paper.pdf"
    )
    assert shapes(script.asked[0].messages[0]) == [text]
    said = "attached paper.pdf (text, 3 pages, without page 2: no text there; "
    assert capsys.readouterr().err == f"{said}/image shows pages as pictures)\n"


def test_a_pdf_without_words_is_its_pages(seeing, script, here, capsys):
    pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
    (here / "scan.pdf").write_bytes(pdf("1 0 0", "0 1 0"))
    converse(seeing, Lines("Sum up ./scan.pdf"))
    sent = script.asked[0].messages[0]
    assert shapes(sent) == ["scan.pdf", "Sum up scan.pdf"]
    assert capsys.readouterr().err == "attached scan.pdf (image, 2 pages)\n"


def test_a_pdf_without_what_reads_it(seeing, script, here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    (here / "scan.pdf").write_bytes(pdf("1 0 0"))
    converse(seeing, Lines("Sum up ./scan.pdf"))
    assert install_command("media") in capsys.readouterr().err
    assert script.asked == []
