"""The tools that a command line names, and those of conversations that are kept."""

import io
from pathlib import Path

import pytest
from calling import WEATHER, calling, get_time, get_weather, results, use_tools
from scripted import Lines, branch, chunks, roles
from typing_in import Typed

from mlx_gemma4.cli.chat.interactive import converse
from mlx_gemma4.cli.chat.session import Session
from mlx_gemma4.cli.config.defaults import read_defaults
from mlx_gemma4.cli.logs.resuming import look_up, put_back
from mlx_gemma4.cli.tools.opening import note_missing
from mlx_gemma4.tools.result import Result
from mlx_gemma4.tools.tool import Tool

FILE = '''def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return "sunny"
'''
LOST = "No result is known: the conversation ended before there was one."


@pytest.fixture
def typed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Typed:
    """In a folder with a file of tools, and one of declarations."""
    (tmp_path / "weather.py").write_text(FILE)
    (tmp_path / "broken.py").write_text("x = 1\nprint(y)\n")
    (tmp_path / "tools.json").write_text('[{"name": "get_weather"}]')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return Typed(monkeypatch, capsys)


@pytest.mark.parametrize(
    "options, said",
    [
        ("--tool tools.json", "tools.json only declares tools: pass it with --tools."),
        ("--tools weather.py", "weather.py is Python, which --tool runs: --tool weat"),
        ("--tool broken.py", "broken.py, line 2: NameError"),
        ("--tool none.py", "There is no file none.py"),
        ("--tool weather.py --tools tools.json", "is declared by --tools as well"),
        ("--tool weather.py --tool weather.py", "get_weather"),
        ("--tool weather.py --max-rounds 0", "--max-rounds"),
    ],
)
def test_what_cannot_be_used_is_said_before_a_model_is_asked(typed, options, said):
    code, out, err = typed(f"chat -m demo {options} Hi")
    assert (code, out) == (2, "")
    assert said in err


def test_a_file_of_tools_that_settings_name_lies_beside_them(tmp_path: Path):
    import typer

    from mlx_gemma4.cli.app import app
    from mlx_gemma4.cli.config.file import Configuration

    path = tmp_path / "config.toml"
    path.write_text('[chat]\ntool = ["weather.py", "/b.py"]\n')
    context = typer.main.get_command(app).make_context("gemma4", ["chat"])
    read_defaults(context, Configuration.read(path))
    files = (context.default_map or {})["chat"]["tool"]
    assert files == [tmp_path / "weather.py", Path("/b.py")]


def again(session: Session) -> None:
    """The last kept conversation, as `-c` puts it back."""
    kept = look_up(None)
    assert kept is not None
    session.keep()
    put_back(kept, session, draft=False)


def test_calls_and_results_are_kept_and_gone_on_with(kept, script):
    use_tools(kept, get_weather, yes=True)
    script.answer = calling(WEATHER)
    converse(kept, Lines("weather?"))
    assert branch() == ["weather?", "", "sunny in Rome", "done"]
    kept.chat.clear()
    again(kept)
    assert roles(kept) == "user assistant tool assistant"
    converse(kept, Lines("and now?"))
    assert len(branch()) == 8


def test_a_result_is_kept_before_the_model_answers_it(kept, script):
    seen: list[list[str]] = []

    def answer(messages: list[dict]) -> object:
        if messages[-1]["role"] == "tool":
            seen.append(branch())
        return calling(WEATHER)(messages)

    def get_weather(city: str) -> str:
        """Get the weather in a city."""
        seen.append(branch())
        return "sunny"

    use_tools(kept, get_weather, yes=True)
    script.answer = answer
    converse(kept, Lines("weather?"))
    assert seen == [["weather?", ""], ["weather?", "", "sunny"]]


def test_a_call_that_was_running_when_the_program_ended(kept, script, capsys):
    """Its result is not known, which is said; it is not run a second time."""
    script.answer = lambda messages: chunks("", tool_calls=(WEATHER,))
    kept.show_once(kept.chat.ask("weather?"))
    kept.chat.clear()
    use_tools(kept, get_weather, yes=True)
    again(kept)
    assert results(kept) == [LOST] == branch()[-1:]
    reader = Lines("so?")
    script.answer = lambda messages: chunks("I do not know.")
    converse(kept, reader)
    assert reader.prompts[0] == "> "
    assert roles(kept) == "user assistant tool user assistant"


def test_tools_that_are_not_there_any_more_are_named(session, script, capsys):
    use_tools(session, get_weather, get_time, yes=True)
    script.answer = calling(WEATHER)
    converse(session, Lines("weather?"))
    note_missing(session)
    assert "not there now" not in capsys.readouterr().err
    session.chat.tools = None
    note_missing(session)
    assert "not there now: get_weather." in capsys.readouterr().err


def test_saved_and_loaded(session, script, tmp_path: Path, capsys):
    use_tools(session, get_weather, yes=True)
    script.answer = calling(WEATHER)
    path = tmp_path / "chat.json"
    converse(session, Lines("weather?", f"/save {path}", "/clear", f"/load {path}"))
    assert roles(session) == "user assistant tool assistant"
    script.answer = lambda messages: chunks("", tool_calls=(WEATHER,))
    session.calls, calls = None, session.calls
    converse(session, Lines("again?", f"/save {tmp_path / 'open.json'}"))
    session.calls = calls
    converse(session, Lines(f"/load {tmp_path / 'open.json'}"))
    assert results(session) == ["sunny in Rome", LOST]


def test_of_a_picture_that_a_tool_gave_words_are_kept(
    seeing, script, store, here, capsys
):
    def run(arguments: object) -> Result:
        picture = {"type": "image", "path": str(here / "a.png")}
        return Result("seen", media=[picture])

    declared = {"type": "function", "function": {"name": "get_weather"}}
    use_tools(seeing, Tool("get_weather", declared, run, "camera"), yes=True)
    seeing.keep()
    script.answer = calling(WEATHER)
    converse(seeing, Lines("weather?", "/show", "/history", "/save a.json"))
    assert seeing.chat.messages[2]["content"][1]["type"] == "image"
    err = capsys.readouterr().err
    assert "result> (image)\n" in err
    assert err.count('get_weather {"city": "Rome"}\n') == 2  # /history shows it, too
    assert branch()[2] == "seen\n(image, not kept)"
    converse(seeing, Lines("/load a.json"))
    assert results(seeing) == ["seen\n(image, not kept)"]
