"""Tools out of files: what of a file becomes one, and what is wrong in it."""

import sys
from pathlib import Path

import pytest

from mlx_gemma4.errors import ChatError
from mlx_gemma4.tools.files import load_tools

PLAIN = '''
from __future__ import annotations
from dataclasses import dataclass
from os.path import join
from beside_this_file import ADDED

@dataclass
class Point:
    x: int

def moved(point: Point) -> int:
    """Moves it."""
    return point.x + ADDED

async def last() -> str:
    return "end"

def _hidden(x): ...
'''
MARKED = """
from mlx_gemma4 import tool

class Home:
    def light(self, state: str) -> str:
        return state

@tool(read_only=True)
def get_time() -> str: return "noon"

def helper(x): ...

light = tool(Home().light)
again = light
"""


@pytest.fixture(autouse=True)
def unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


def test_public_functions(tmp_path: Path) -> None:
    (tmp_path / "beside_this_file.py").write_text("ADDED = 1")
    file = tmp_path / "more.py"
    file.write_text(PLAIN)
    moved, last = load_tools(file)
    assert (moved.name, moved.source) == ("moved", "more.py")
    assert moved.run({"point": {"x": 2}}) == 3
    assert (last.name, last.run({})) == ("last", "end")


def test_with_marked_functions_those_alone(tmp_path: Path) -> None:
    file = tmp_path / "home.py"
    file.write_text(MARKED)
    found = load_tools(file)
    assert [(t.name, t.source, t.read_only) for t in found] == [
        ("get_time", "home.py", True),
        ("light", "home.py", None),
    ]
    assert [each.name for each in tmp_path.iterdir()] == ["home.py"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ndef f(:\n", ", line 2: invalid syntax."),
        (
            "import nosuch\n",
            ", line 1: ModuleNotFoundError: No module named 'nosuch'",
        ),
        ("import json\n\njson.loads('')\n", ", line 3: JSONDecodeError: Expecting v"),
        ("import sys\nsys.exit(3)", ", line 2: SystemExit: 3."),
        ("x = 1\ndef f(a): ...", ", line 2: f takes `a` of no known type: write its"),
        (
            "from mlx_gemma4 import tool\n\n@tool\ndef f(a): ...",
            ", line 3: f takes `a` of no known type: write its",
        ),
        ("x = 1\ny = '\xff'".encode("latin1"), ", line 2: (unicode error) 'utf-8'"),
        (b"\0", ": SyntaxError: source code string cannot contain null bytes."),
        ("x = 1", " defines no function whose name is public."),
    ],
)
def test_what_is_wrong_in_a_file(tmp_path: Path, text: str | bytes, said: str) -> None:
    file = tmp_path / "wrong.py"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ChatError) as caught:
        load_tools(file)
    assert str(caught.value).startswith(f"{file}{said}")


def test_what_is_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ChatError, match="There is no file .*none.py"):
        load_tools(tmp_path / "none.py")
    (tmp_path / "house.py").touch()
    with pytest.raises(ChatError, match=r"no file .*house\. Did you mean .*house.py\?"):
        load_tools(tmp_path / "house")
    with pytest.raises(ChatError, match="is no file: name a FILE.py"):
        load_tools(tmp_path)
    with pytest.raises(ChatError, match="only declares tools.*--tools"):
        load_tools("weather.json")


def test_ctrl_c_goes_through(tmp_path: Path) -> None:
    file = tmp_path / "stopped.py"
    file.write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_tools(file)
