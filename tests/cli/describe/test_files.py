"""What names on the command line stand for: files, patterns and the prompt."""

import glob
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from pictures import encoded, pdf, png
from PIL import Image

from mlx_gemma4.cli import files, inputs
from mlx_gemma4.cli.errors import InputError, UsageError
from mlx_gemma4.cli.files import (
    MediaArgument,
    find_sources,
    matches,
    media_kind,
    split_prompt,
)
from mlx_gemma4.cli.media_formats import format_of, kind_of_file
from mlx_gemma4.errors import MediaError
from mlx_gemma4.vision import images
from mlx_gemma4.vision.video import video_frames


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
    "text",
    ["G\n" * 600, "ID3 tags?", "GIF8 or PNG", "caffeine", "OggSound", "Loftftypmp42"],
)
def test_text_that_begins_like_a_format(text):
    assert format_of(text.encode()) is None


def test_a_heic_picture_without_a_suffix(tmp_path, monkeypatch):
    """What it lacks is a decoder: it is a picture all the same."""
    monkeypatch.setattr(images.sys, "platform", "linux")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "IMG_0001"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    with pytest.raises(MediaError, match="IMG_0001 is a HEIC picture"):
        MediaArgument(str(path)).part({})


@pytest.mark.parametrize(
    ("name", "start", "kind"),
    [
        ("photo.jpg", b"RIFF1234WAVEfmt ", "audio"),
        ("talk.wav", png(), "image"),
        ("film.mp4", b"%PDF-1.7\n", "image"),
        ("film.mp4", b"RIFF1234WAVEfmt ", "audio"),  # which holds sound alone
        ("film.ogv", b"fLaC" + bytes(8), "audio"),
        ("scan.png", b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        # A container that may hold either: as it is named.
        ("talk.m4a", b"\0\0\0\x18ftypisom\0\0\0\0", "audio"),
        ("talk.mka", b"\x1a\x45\xdf\xa3" + bytes(12), "audio"),
        ("film.mp4", b"\0\0\0\x18ftypM4A \0\0\0\0", "video"),
        ("film.ogv", b"OggS\0" + bytes(30), "video"),
        ("a.wma", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(8), "audio"),
        # What the content does not tell, the name does.
        ("film.mov", bytes(40), "video"),
        ("film.mov", b"", "video"),
    ],
)
def test_content_comes_before_the_suffix(tmp_path, name, start, kind):
    (tmp_path / name).write_bytes(start)
    assert media_kind(tmp_path / name, name) == kind
    assert kind_of_file(tmp_path / name) == kind


@pytest.mark.parametrize(
    ("format", "codec", "suffix"),
    [
        ("mpegts", "mpeg2video", "ts"),
        ("mpegts", "mpeg2video", "MTS"),
        ("mpegts", "mpeg2video", "m2ts"),
        ("asf", "wmv2", "wmv"),
        ("flv", "flv", "flv"),
        ("mpeg", "mpeg2video", "mpg"),
        ("avi", "mpeg4", "avi"),
        ("mp4", "mpeg4", "3gp"),
    ],
)
def test_videos_of_every_kind(tmp_path, format, codec, suffix):
    """Also without a name, and where a program's text has the same suffix."""
    av = pytest.importorskip("av", reason="PyAV is not installed (extra `media`)")
    path = tmp_path / f"clip.{suffix}"
    options = {"mpegts_m2ts_mode": "1"} if suffix == "m2ts" else {}
    with av.open(str(path), "w", format=format, options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(60):
            noise = np.random.randint(0, 256, (48, 64, 3)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(noise, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    path.rename(tmp_path / "download")
    for name in ("download", f"clip.{suffix}", "photo.png"):
        (tmp_path / name).write_bytes((tmp_path / "download").read_bytes())
        assert media_kind(tmp_path / name, name) == "video"
    assert len(list(video_frames(tmp_path / "photo.png", frames=2))) == 2
    (tmp_path / "program.ts").write_text("export const a = 1;\n" * 40)
    assert kind_of_file(tmp_path / "program.ts") is None


def test_an_ogg_video_is_none_of_sound_alone(tmp_path):
    page = b"OggS\0\2" + bytes(20) + b"\1\x2a"
    assert format_of(page + b"\x80theora\3\2").kind == "video"
    assert format_of(page + b"OpusHead").kind == "audio"


def test_a_moving_picture_is_a_video(folder):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:], duration=500)
    part = MediaArgument("a.gif").part({"fps": 2.0})
    assert part == {"type": "video", "video": Path("a.gif"), "fps": 2.0}
    with pytest.warns(UserWarning, match="a.gif moves: only the first of its 2 frames"):
        assert MediaArgument("a.gif").part({}, still=True)["image"].size == (8, 6)
    assert MediaArgument("a.gif").moves() and not MediaArgument("a.png").moves()


def test_a_document_is_left_to_the_processor(folder):
    pages = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    pages[0].save("a.tif", save_all=True, append_images=pages[1:])
    assert MediaArgument("a.tif").part({}) == {"type": "image", "image": Path("a.tif")}
    pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
    for colours, several in ((("1 0 0",), False), (("1 0 0", "0 0 1"), True)):
        Path("a.pdf").write_bytes(pdf(*colours))
        part = MediaArgument("a.pdf").part({})
        assert (part["image"] == Path("a.pdf")) == several


@pytest.mark.parametrize("name", ["a b.png", "Zürich.png"])
def test_names_that_look_like_a_file_s(folder, name):
    """A screenshot of macOS, typed by hand; a name that came through a Mac."""
    stored = name.replace(" ", "\u202f").replace("ü", "u\u0308")
    Path(stored).write_bytes(png())
    assert [Path(found).name for found in names(name)] in ([stored], [name])


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
        ("paper", b"PK\3\4", r"paper is a zip archive, not a picture or video\."),
        ("photo.png", b"PK\3\4", r"photo\.png is a zip archive, not a picture"),
        ("a.png", b"version https://git-lfs.github.com/spec/v1", "run git lfs pull"),
        ("a.png", b"RIFF1234WAVEfmt ", r"a\.png is a recording.*gemma4 transcribe"),
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
