"""Pictures in the terminal: who shows them, and what is sent."""

import io
import re
from base64 import b64decode
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from mlx_gemma4.cli.attach.attaching import attach
from mlx_gemma4.cli.terminal.preview import Protocol, height, preview, protocol

if TYPE_CHECKING:
    from mlx_gemma4.cli.chat.session import Session

KITTY = {"TERM": "xterm-kitty", "KITTY_WINDOW_ID": "1"}
ITERM = {"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}


@pytest.mark.parametrize(
    ("environ", "how"),
    [
        (KITTY, Protocol.KITTY),
        ({"TERM": "xterm-ghostty"}, Protocol.KITTY),
        ({"KONSOLE_VERSION": "230804"}, Protocol.KITTY),
        ({"KONSOLE_VERSION": "211200"}, None),
        (ITERM, Protocol.ITERM),
        ({"TERM_PROGRAM": "WezTerm"}, Protocol.ITERM),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, Protocol.ITERM),
        ({"TERM_PROGRAM": "Apple_Terminal"}, None),
        ({}, None),
        (KITTY | {"TMUX": "/tmp/tmux"}, None),
        (ITERM | {"STY": "1.pts"}, None),
        (ITERM | {"TERM": "screen-256color"}, None),
    ],
)
def test_who_shows_them(environ: dict[str, str], how: Protocol | None) -> None:
    assert protocol(environ) is how


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "noise.png"
    Image.effect_noise((640, 480), 90).convert("RGB").save(path)
    return path


def sent(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], path: Path) -> str:
    for name in ("TMUX", "STY", "KITTY_WINDOW_ID", "TERM_PROGRAM", "LC_TERMINAL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    assert preview(path, stream)
    return stream.getvalue()


def test_kitty(monkeypatch: pytest.MonkeyPatch, picture: Path) -> None:
    text = sent(monkeypatch, KITTY, picture)
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert text == "".join(f"\x1b_G{key};{data}\x1b\\" for key, data in parts) + "\n"
    keys = [key for key, _ in parts]
    assert keys[0] == "a=T,f=100,q=2,r=8,m=1" and keys[-1] == "m=0"
    assert set(keys[1:-1]) == {"m=1"}
    assert all(len(data) <= 4096 for _, data in parts)
    shown = Image.open(io.BytesIO(b64decode("".join(data for _, data in parts))))
    assert shown.size == (426, 320)


def test_iterm(monkeypatch: pytest.MonkeyPatch, picture: Path) -> None:
    text = sent(monkeypatch, ITERM, picture)
    match = re.fullmatch(r"\x1b\]1337;File=([^:]*):([^\x07]*)\x07\n", text)
    assert match
    data = b64decode(match[2])
    assert match[1] == f"inline=1;size={len(data)};height=8;preserveAspectRatio=1"
    assert Image.open(io.BytesIO(data)).size == (426, 320)


def test_a_picture_that_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert sent(monkeypatch, KITTY, tmp_path / "gone.png") == ""


@pytest.mark.parametrize(
    ("size", "columns", "rows"),
    [
        ((4000, 3000), 80, 8),  # as high as any may be
        ((30, 20), 80, 1),  # not enlarged
        ((200, 100), 80, 3),
        ((4000, 100), 80, 1),  # not wider than the window
        ((1600, 800), 20, 5),
    ],
)
def test_height(size: tuple[int, int], columns: int, rows: int) -> None:
    assert height(size, columns) == rows


def test_a_picture_is_shown_where_it_is_attached(
    monkeypatch: pytest.MonkeyPatch, seeing: "Session", here: Path
) -> None:
    shown: list[Path] = []
    monkeypatch.setattr(seeing.screen, "preview", shown.append)
    attach(seeing, [("image", here / "a.png")])
    attach(seeing, [("image", here / "b c.png")], say=False)
    assert shown == [here / "a.png"]
