"""What names on the command line stand for: files, patterns and the prompt."""

import glob
import os
import threading
from pathlib import Path

import pytest
from pictures import encoded, png

from mlx_gemma4.cli import files, inputs
from mlx_gemma4.cli.errors import InputError, UsageError
from mlx_gemma4.cli.files import (
    MediaArgument,
    find_sources,
    matches,
    media_kind,
    split_prompt,
)
from mlx_gemma4.cli.media_formats import format_of
from mlx_gemma4.errors import MediaError
from mlx_gemma4.vision import images


def bmp() -> bytes:
    """A picture that only Pillow knows by its content."""
    return encoded("BMP", 8, 6)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("photo.png", "b.png", "a.png", "notes", "with space.png", "[1].png"):
        Path(name).write_bytes(png())
    Path("sub").mkdir()
    Path("sub/deep.png").write_bytes(png())
    return tmp_path


@pytest.mark.parametrize(
    ("words", "prompt"),
    [
        (["photo.png"], None),
        (["photo.png", "What is this?"], "What is this?"),
        (["photo.png", "Why?"], "Why?"),
        (["photo.png", "Describe."], "Describe."),
        (["photo.png", "and or in a/b.c, maybe"], "and or in a/b.c, maybe"),
        (["photo.png", ""], ""),
        (["photo.png", "x" * 5000], "x" * 5000),
        (["photo.png", "Is it \0 or ~nobody?"], "Is it \0 or ~nobody?"),
        (["What is this?"], "What is this?"),
        (["photo.png", "notes"], None),
        (["photo.png", "with space.png"], None),
        (["photo.png", "no such picture.JPG"], None),
        (["photo.png", "photo.pgn"], None),
        (["photo.png", "sub/photo"], None),
        (["photo.png", "./what is this"], None),
        (["photo.png", "*"], None),
        (["photo.png", "[ab].png"], None),
        (["photo.png", "-"], None),
        (["photo.png", "http://host/a b"], None),
        ([], None),
    ],
)
def test_the_prompt_is_what_does_not_look_like_a_path(folder, words, prompt):
    names = words if prompt is None else words[:-1]
    assert split_prompt(words) == (names, prompt)


def names(*given: str, allow_url: bool = False) -> list[str]:
    return [source.name for source in find_sources(given, allow_url)]


def test_patterns_that_the_shell_left(folder):
    assert names("[ab].png", "sub/*") == ["a.png", "b.png", "sub/deep.png"]
    assert names("**/deep.png") == ["sub/deep.png"]
    Path("sub/folder.png").mkdir()
    assert names("**/d*.png", "s*/*.png") == ["sub/deep.png", "sub/deep.png"]
    assert names("[1].png") == ["[1].png"]  # a file's name comes before a pattern


def test_home_is_expanded(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert names("~/[ab].png") == [str(folder / "a.png"), str(folder / "b.png")]
    assert names("~/photo.png") == ["~/photo.png"]
    assert MediaArgument("~/photo.png").part({})["image"].size == (8, 6)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("photo.pgn", r"no file photo\.pgn\. Did you mean photo\.png\?$"),
        ("sub/dep.png", r"Did you mean sub/deep\.png\?$"),
        ("elsewhere.png", r"no file elsewhere\.png\.$"),
        ("gone/a.png", r"no file gone/a\.png\.$"),
        ("is.it", r"If it is a question, put -p before it\.$"),
        ("nothing*.png", r"No file matches nothing\*\.png\.$"),
        ("s[u]b", r"No file matches s\[u\]b\.$"),
        ("sub", r"sub is a folder\. Name the files: 'sub/\*'$"),
        ("\0.png", "no file"),
    ],
)
def test_names_that_lead_nowhere(folder, name, told):
    with pytest.raises(InputError, match=told):
        find_sources([name], allow_url=False)


def test_standard_input_only_once(folder):
    assert names("-", "photo.png") == ["-", "photo.png"]
    with pytest.raises(UsageError, match="only once"):
        find_sources(["-", "-"], allow_url=False)


def test_urls_only_when_allowed(folder):
    with pytest.raises(UsageError, match=r"Add --allow-url"):
        find_sources(["https://host/a.png"], allow_url=False)
    assert names("https://host/a.png", allow_url=True) == ["https://host/a.png"]


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"RIFF1234WAVEfmt ", "audio"),
        (b"RIFF1234AVI LIST", "video"),
        (b"\0\0\0\x18ftypM4A \0\0\0\0", "audio"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        (b"\0\0\0\nftypqt  \0\0\0\0", "video"),
        (b"\x1a\x45\xdf\xa3" + bytes(12), "video"),
        (b"ID3\4" + bytes(12), "audio"),
        (b"RIFF1234WEBPVP8 ", "image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "image"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "image"),
        (bmp(), "image"),
        (png(), "image"),
    ],
)
def test_kinds_by_content(tmp_path, start, kind):
    path = tmp_path / "download"
    path.write_bytes(start)
    assert media_kind(path, "download") == kind
    assert media_kind(start, "standard input") == kind


@pytest.mark.parametrize(
    "text", ["ID3 tags?", "GIF8 or PNG", "caffeine", "OggSound", "Loftftypmp42"]
)
def test_text_that_begins_like_a_format(text):
    assert format_of(text.encode()) is None


def test_a_heic_picture_without_a_suffix(tmp_path, monkeypatch):
    """What it lacks is a decoder: it is a picture all the same."""
    monkeypatch.setattr(images.sys, "platform", "linux")
    monkeypatch.setattr(images.importlib.util, "find_spec", lambda name: None)
    path = tmp_path / "IMG_0001"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    with pytest.raises(MediaError, match="IMG_0001 is a HEIC picture"):
        MediaArgument(str(path)).part({})


def test_a_suffix_comes_before_the_content(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"RIFF1234WAVEfmt ")
    assert media_kind(path, "photo.jpg") == "image"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("notes.txt", b"hello", r"notes\.txt is not a picture or video\. Known"),
        ("empty", b"", r"empty is empty"),
        ("empty.png", b"", r"empty\.png is empty"),
        ("cut.png", png(64, 64)[:-30], r"cut\.png is damaged"),
        ("cut", png(64, 64)[:-30], r"cut is damaged"),
        ("cut", bmp()[:-30], r"cut is damaged"),
        ("format", bmp()[:-30], r"format is damaged"),
        ("paper", b"%PDF-1.7", r"paper is a PDF document, not a picture or video\."),
        ("talk.wav", b"RIFF", r"talk\.wav is a recording.*gemma4 transcribe"),
        ("fake.png", b"hello", r"fake\.png is (in )?no picture"),
    ],
)
def test_files_that_cannot_be_seen(tmp_path, monkeypatch, name, content, told):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    with pytest.raises(MediaError, match=told):
        MediaArgument(name).part({})


def test_a_video_is_left_to_the_processor(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"anything")
    part = MediaArgument(str(path)).part({"fps": 2.0})
    assert part == {"type": "video", "video": path, "fps": 2.0}


def test_names_for_what_is_made_of_a_source():
    given = ("a/b.c.png", "-", "https://host/x/y.jpg?size=1", "https://host")
    assert [MediaArgument(n).stem for n in given] == ["b.c", "stdin", "y", "host"]


def test_nothing_piped_in(monkeypatch):
    monkeypatch.setattr(inputs.sys, "stdin", None)
    with pytest.raises(UsageError, match="gemma4 describe - < picture.png"):
        MediaArgument("-").content()


def test_a_pipe_in_place_of_a_file(folder):
    """As a shell makes of <(…): it has no suffix and can be read once."""
    ours, theirs = os.pipe()
    os.write(theirs, png())
    os.close(theirs)
    assert MediaArgument(f"/dev/fd/{ours}").part({})["image"].size == (8, 6)
    os.close(ours)


def test_several_stars_find_each_file_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    for folder in (".", "a", "a/b", "a/b/c"):
        (tmp_path / folder / "x.png").write_bytes(b"")
    found = ["a/b/c/x.png", "a/b/x.png", "a/x.png", "x.png"]
    for pattern in ("**/*.png", "**/**/*.png", "**/**/**/**/*.png"):
        assert matches(pattern) == found
    assert matches("**/b/**/*.png") == found[:2]
    assert matches("./**/**/x.png") == [f"./{name}" for name in found]


def test_a_search_has_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST_SEARCH", 0.05)
    done = threading.Event()
    monkeypatch.setattr(glob, "glob", lambda *_, **__: done.wait(10) and [])
    with pytest.raises(InputError, match="still being searched after 0.05 s"):
        matches("/**/*.png")
    done.set()
